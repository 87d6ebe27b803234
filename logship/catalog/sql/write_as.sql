-- Made for one owner by logship.catalog.writers, which fills in what stands in braces.
--
-- What users wrote (checks, defaults, generated columns, ALWAYS triggers, index expressions …) runs in
-- here with its owner's rights: a security definer function refuses SET ROLE and SET SESSION
-- AUTHORIZATION.
create function {name}(statement text, {parameters}) returns bigint
  language plpgsql volatile parallel unsafe security definer
  {settings}
as $function$
declare
{guard_before}
  rows_affected bigint;
begin
  execute statement using {arguments};
  get diagnostics rows_affected = row_count;
{guard_after}
  return rows_affected;
end
$function$
