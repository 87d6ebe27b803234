"""The tables as the newest revision has them."""

from __future__ import annotations

import datetime as dt
import enum

from sqlalchemy import CheckConstraint, Enum, ForeignKey, Index, String, func
from sqlalchemy.dialects.postgresql import TSTZRANGE, ExcludeConstraint, Range
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """What the revisions make, and `alembic revision --autogenerate` compares with."""


class Genre(enum.Enum):
    novel = "novel"
    poetry = "poetry"
    comic = "comic"


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    given_name: Mapped[str] = mapped_column(String(100), server_default="")
    family_name: Mapped[str] = mapped_column(String(100))
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"
    __table_args__ = (
        CheckConstraint("copies >= 0", name="copies_not_negative"),
        Index("book_by_author", "author_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    copies: Mapped[int] = mapped_column(server_default="1")
    genre: Mapped[Genre] = mapped_column(Enum(Genre, name="genre"), server_default="novel")
    added_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    author: Mapped[Author] = relationship(back_populates="books")


class Loan(Base):
    __tablename__ = "loan"
    __table_args__ = (
        ExcludeConstraint(("book_id", "="), ("during", "&&"), name="one_at_a_time", using="gist"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id", ondelete="CASCADE"))
    during: Mapped[Range[dt.datetime]] = mapped_column(TSTZRANGE)
