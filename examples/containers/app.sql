-- A table to begin with, as the application's own role: put your schema here. Schema changes are not carried
-- yet, so it must be there before `logship init` runs.
set role app;
create table public.note (
  id bigint generated always as identity primary key,
  written_at timestamptz not null default now(),
  text text not null
);
insert into public.note (text) values ('written before the copy');
