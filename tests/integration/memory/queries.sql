-- A query per line: what memory answers itself, and what it leaves to the secondary. See test_reading.py.
-- memory
select * from shop.sale order by id
select * from shop.once order by id
select "Ein Feld" + 1 from shop."Odd ""name"
select count(*), count(amount), count(distinct region), sum(qty), sum(small), sum(big) from shop.sale where id < 1000
select region, sum(amount), min(amount), max(d) from shop.sale group by region order by region nulls first
select region, count(*) filter (where ok), sum(qty) filter (where qty > 0) from shop.sale group by 1 order by 1 desc
select date_trunc('month', at) m, sum(amount * qty) from shop.sale where id < 1000 group by 1 order by m
select date_trunc('week', ts), count(*) from shop.sale group by 1 order by 1
select extract(year from at), extract(isodow from d), date_part('hour', ts), count(*) from shop.sale where id < 1000 group by 1, 2, 3 order by 1, 2, 3
select id, qty / 3, qty % 3, -qty, abs(qty), amount + 1, amount - amount, amount * 2.5, 2 * big from shop.sale where id < 50 order by id
select id, f + r, f * 2, f / 4, -f, abs(r), f - r from shop.sale where id < 50 order by id
select avg(f), avg(r), max(f), min(r) from shop.sale where id < 1000
select max(f), min(f), max(r), max(at), min(at), max(ts), max(d), min(d), max(t) from shop.sale
select id, f > 49.5, r <= 1.5, f = 0, r = 0 from shop.sale order by id
select id, amount > 100, amount = 1.37 * id - 50, amount between 10 and 20.5, qty in (1, 2, null), qty not in (1, 2) from shop.sale order by id
select id, round(amount), round(amount, 1), round(amount, 4), floor(amount), ceil(amount), amount::int, f::bigint, qty::text from shop.sale where id < 400 order by id
select id, cast(amount as float8), cast(qty as numeric(10,3)), ts::date, at::date, d::timestamp from shop.sale where id < 400 order by id
select d + 3, d - 1, d - date '2024-01-01', d + qty from shop.sale where id < 100 order by id
select id from shop.sale where d >= '2024-03-01' and d < '2024-04-01' and ts >= '2024-01-01 10:30' and at < '2024-06-01 00:00:00+02' order by id
select id from shop.sale where ts > d and ok and not (qty > 3) order by id
select id from shop.sale where name like 'n1%' and name not like '%9' and region <> 'South' order by id
select distinct name from shop.sale where name = 'n3'
select max(region), min(region) from shop.sale
select id from shop.sale where region < 'a' order by id
select length(region), region || '!' || name from shop.sale where id < 30 order by id
select id, code from shop.sale where id < 9 order by id
select id, u, ok, m, j, b, iv, a, free from shop.sale where u > '00000000-0000-0000-0000-000000000010' and id < 40 order by u, id
select s.id, p.rank from shop.sale s join shop.place p on p.region = s.region where s.id < 60 order by s.id
select p.region, count(s.id) from shop.place p left join shop.sale s on s.region = p.region and s.qty > 0 group by p.region order by 1
select p.region, s.id from shop.place p full join (select id, region from shop.sale where id < 6) s on s.region = p.region order by 1, 2
select count(*) from shop.place p, shop.place q where p.id < q.id
with top as (select region, sum(amount) total from shop.sale group by region) select p.rank, t.total from top t join shop.place p on p.region = t.region order by 1
select id from shop.place p where exists (select 1 from shop.sale s where s.region = p.region and s.id < 3) order by id
select id, (select max(s.id) from shop.sale s where s.region = p.region) from shop.place p order by id
select id from shop.place where region in (select region from shop.sale) order by id
select case when qty > 0 then 'up' when qty = 0 then 'none' end k, count(*) from shop.sale group by 1 order by count(*), 1
select case qty when 1 then amount else 0.25 end, coalesce(region, 'none'), nullif(qty, 1), greatest(qty, 3, small) from shop.sale where id < 40 order by id
select region from shop.place union select region from shop.sale order by 1
select id from shop.place intersect select qty from shop.sale order by 1
select id from shop.place except all select rank from shop.place where rank > 2
select id, rank from shop.place order by rank desc limit 1 offset 1
select region as reg, count(*) from shop.sale group by reg having count(*) > 80 order by count(*) desc, reg
select bool_and(ok), bool_or(ok), every(qty < 9) from shop.sale
select 1, 'a', null, true, 12345678901, 1.50
select nullif('n3', name), count(*) from shop.sale group by 1 order by 2, length(nullif('n3', name))
select case when qty > 0 then 'up' else 'Down' end k, count(*) from shop.sale group by k order by k
-- persistence
select id, pair is null, pair is not null from shop.once order by id
select id from shop.sale where r in (0.3333333, 2)
select id from shop.sale where nullif(qty, 1.5) / 2 > 1.4 order by id
select extract(year from d) from shop.sale
select f, r from shop.sale where f = 'NaN' or id > 1000
select id from shop.sale where f > 1e308 or r > 3 order by id
select d + 3 from shop.sale
select id from shop.sale where d >= 'today'
select id from shop.sale where name like 'n\_%'
select name from shop.sale order by name, id limit 3
select min(name), max(name) from shop.sale
select lower(name) from shop.sale
select code, code is null, count(code) from shop.sale group by code
select m, count(*) from shop.sale group by m order by m
select sum(free) from shop.sale
select avg(amount) from shop.sale
select amount / 3 from shop.sale
select sum(r) from shop.sale
select j->>'g' from shop.sale
select a[1] from shop.sale
select count(*) from shop.place p natural join shop.place q
select id from shop.place where id = (select s.id from shop.sale s)
select 1 / (qty - qty) from shop.sale
select big + big from shop.sale
select f * 1e300 * 1e300 from shop.sale where id = 1
select coalesce(amount, 0) from shop.sale
select count(*) over (), id from shop.place
select qty, sum(amount) from shop.sale group by rollup (qty)
select now() > at from shop.sale limit 1
select d, count(*) from shop.once group by d
select id from shop.seen
select tableoid from shop.place
select p from shop.place p
select is_superuser from (select current_setting('is_superuser') is_superuser) x
select relname from pg_class where relname = 'place'
