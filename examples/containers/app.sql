-- A table to begin with, as the application's own role. What it makes and changes later is followed.
set role app;
create table public.note (
  id bigint generated always as identity primary key,
  written_at timestamptz not null default now(),
  text text not null
);
insert into public.note (text) values ('written before the copy');
