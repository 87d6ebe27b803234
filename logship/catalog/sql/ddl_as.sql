-- Made for one owner by logship.catalog.writers, which fills in what stands in braces.
--
-- Runs one statement of DDL with its owner's rights, under the settings that it had on the primary: their names and
-- their values. They end with this function, whose own SET clause names each of them. The search_path among them is the
-- user's, so nothing here but the statement is looked up through it: what stands before it uses no operator, and
-- the first thing after it puts the path back. Why it isn't SET ROLE: see write_as.sql.
create function {name}(statement text, settings text[], "values" text[]) returns void
  language plpgsql volatile parallel unsafe security definer
  {settings}
as $function$
declare
{guard_before}
begin
  for place in 1 .. pg_catalog.cardinality(settings) loop
    perform pg_catalog.set_config(settings[place], "values"[place], true);
  end loop;
  execute statement;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
{guard_after}
end
$function$
