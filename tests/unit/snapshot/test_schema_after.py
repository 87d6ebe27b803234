"""Foreign keys out of pg_dump's post-data, as they can be made between tables of different LSNs."""

from __future__ import annotations

import pytest

from logship.snapshot import schema_after

FOREIGN_KEY = """--
-- Name: other other_a_fkey; Type: FK CONSTRAINT; Schema: public; Owner: postgres
--

ALTER TABLE ONLY public.other
    ADD CONSTRAINT other_a_fkey FOREIGN KEY (a) REFERENCES public.big(a);


"""
INDEX = """--
-- Name: big_b_idx; Type: INDEX; Schema: public; Owner: postgres
--

CREATE INDEX big_b_idx ON public.big USING btree (b);


"""
LAST_WORDS = """--
-- PostgreSQL database dump complete
--

"""


@pytest.mark.parametrize("text", [FOREIGN_KEY + INDEX, INDEX + FOREIGN_KEY + LAST_WORDS, FOREIGN_KEY])
def test_a_foreign_key_is_made_not_valid_wherever_it_stands(text: str) -> None:
    (entry,) = [entry for entry in schema_after.entries(text) if entry.kind == "FK CONSTRAINT"]
    made = schema_after.unchecked(entry)
    assert made.text.rstrip().endswith("REFERENCES public.big(a) NOT VALID;")
    assert schema_after.unchecked(made).text == made.text
    assert schema_after.foreign_key(entry) == schema_after.ForeignKey(
        "other_a_fkey", ("public", "other"), ("public", "big")
    )
