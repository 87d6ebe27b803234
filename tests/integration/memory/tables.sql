-- What test_reading.py asks about.
create type public.mood as enum ('sad', 'ok', 'happy');
create schema shop;
create table shop.sale (
  id int primary key, region text collate "C", name text collate "C.utf8",
  code char(4), amount numeric(12,2), free numeric, qty int,
  small smallint, big bigint, f float8, r real, at timestamptz, ts timestamp, d date, t time, u uuid, ok bool,
  j jsonb, m public.mood, b bytea, iv interval, a int[]);
insert into shop.sale
select g, (array['north', 'South', 'é', null, ''])[g % 5 + 1], 'n' || g % 7, 'c' || g % 3,
       case when g % 11 = 0 then null else g * 1.37 - 50 end, g * 0.1, g % 10 - 5, g % 300 - 100,
       g::bigint * 9000000000, g / 8.0, g / 3.0, '2024-01-31 22:30:00+00'::timestamptz + g * interval '13 hours',
       '2023-12-30 23:59:59.5'::timestamp + g * interval '7 hours', '2024-02-27'::date + g,
       time '00:00' + g * interval '7 min',
       ('00000000-0000-0000-0000-0000000000' || lpad(to_hex(g % 256), 2, '0'))::uuid, g % 3 = 0,
       jsonb_build_object('g', g), (array['sad', 'ok', 'happy'])[g % 3 + 1]::public.mood,
       decode(to_hex(4096 + g), 'hex'),
       g * interval '1 day -3 min', array[g, null]
  from generate_series(1, 400) g;
insert into shop.sale (id, at, ts, d, f, r, amount, qty, big, t)
values (1001, 'infinity', '-infinity', 'infinity', 'NaN', '-0', -0.00, null, null, '24:00'),
       (1002, '-infinity', 'infinity', '-infinity', '-0', 'Infinity', 9999999999.99, 2147483647, 9223372036854775807,
        '00:00');
create table shop.place (id int primary key, region text collate "C", rank int);
insert into shop.place values (1, 'north', 2), (2, 'South', 1), (3, 'west', 3);
create type shop.pair as (a int, b int);
create table shop.once (id int primary key, d date, ts timestamp, n numeric(8,2), pair shop.pair);
insert into shop.once values (1, '0044-03-15 BC', '2024-01-01', 1, row (null, null)),
       (2, '2024-01-01', '2024-01-01', 'NaN', row (1, null));
create table shop.cold (id int primary key, v text);
insert into shop.cold values (1, 'a'), (2, 'b');
create table shop.secret (id int primary key, v text);
create table shop.partly (id int primary key, open text, closed text);
create table shop.guarded (id int primary key, owner text);
alter table shop.guarded enable row level security;
create policy own on shop.guarded using (owner = current_user);
insert into shop.secret values (1, 'hush');
insert into shop.partly values (1, 'seen', 'unseen');
insert into shop.guarded values (1, 'analyst'), (2, 'other');
create view shop.seen as select id, region from shop.sale;
create table "shop"."Odd ""name" ("Ein Feld" int primary key);
insert into shop."Odd ""name" values (7);
