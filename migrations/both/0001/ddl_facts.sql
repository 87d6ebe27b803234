-- What the catalog says of one object, in a form that is the same on both sides: no oids, names qualified, lists
-- in an order of their own. The same text is installed on the primary, where it goes into the message of a
-- schema change, and on the secondary, where it is asked after the replay.
--
-- Names are found in pg_catalog alone: those who are called from outside (ddl_object, ddl_object_at, and on the primary
-- ddl_capture) pin the path, and with it everything that changes how PostgreSQL writes a definition down. The others
-- are called by these only, and pin nothing: it would cost more than what they do. What is null is left out. No
-- user's code runs in here.
--
-- What is seldom asked has a statement of its own, since what a session never runs it never plans; and there are
-- no functions in the language SQL, which are planned at each call.
-- Of anything but what is in pg_class.
create function logship.ddl_facts(class oid, object oid) returns jsonb
  language plpgsql stable security invoker
as $function$
declare
  facts jsonb;
begin
  if class = 'pg_catalog.pg_type'::regclass::oid then
    facts := logship.ddl_type(object);
  elsif class = 'pg_catalog.pg_proc'::regclass::oid then
    facts := logship.ddl_routine(object);
  else
    facts := logship.ddl_other(class, object);
  end if;
  if facts is null then
    return null;
  end if;
  return jsonb_strip_nulls(facts || jsonb_build_object('comment', (
    select x.description from pg_catalog.pg_description x
     where x.objoid = object and x.classoid = class and x.objsubid = 0)));
end
$function$;

create function logship.ddl_type(type oid) returns jsonb
  language plpgsql stable security invoker
as $function$
declare
  facts jsonb;
  kind "char";
begin
  select jsonb_build_object(
           'kind', t.typtype, 'owner', pg_get_userbyid(t.typowner), 'acl', logship.ddl_acl(t.typacl, 'T', t.typowner),
           'not_null', nullif(t.typnotnull, false), 'default', t.typdefault),
         t.typtype
    into facts, kind from pg_catalog.pg_type t where t.oid = ddl_type.type;
  case kind
  when 'e' then
    facts := facts || jsonb_build_object('labels', (
      select jsonb_agg(e.enumlabel order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = ddl_type.type));
  when 'd' then
    facts := facts || (
      select jsonb_build_object(
               'base', format_type(t.typbasetype, t.typtypmod),
               'collation', nullif(t.typcollation, 0)::regcollation::text,
               'constraints', (
                 select jsonb_agg(jsonb_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid),
                                                     'validated', k.convalidated) order by k.conname)
                   from pg_catalog.pg_constraint k where k.contypid = t.oid and k.contype <> 'n'))
        from pg_catalog.pg_type t where t.oid = ddl_type.type);
  when 'c' then
    facts := facts || jsonb_build_object('attributes', (
      select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
               'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
               'collation', nullif(a.attcollation, 0)::regcollation::text,
               'comment', (select x.description from pg_catalog.pg_description x
                            where x.objoid = a.attrelid and x.classoid = 'pg_catalog.pg_class'::regclass
                              and x.objsubid = a.attnum))) order by a.attnum)
        from pg_catalog.pg_type t
        join pg_catalog.pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
       where t.oid = ddl_type.type));
  when 'r' then
    facts := facts || (
      select jsonb_build_object(
               'subtype', r.rngsubtype::regtype::text, 'multirange', r.rngmultitypid::regtype::text,
               'subtype_collation', nullif(r.rngcollation, 0)::regcollation::text,
               'subtype_operators', (select o.opcname from pg_catalog.pg_opclass o where o.oid = r.rngsubopc),
               'canonical', nullif(r.rngcanonical, 0)::regprocedure::text,
               'subtype_diff', nullif(r.rngsubdiff, 0)::regprocedure::text)
        from pg_catalog.pg_range r where r.rngtypid = ddl_type.type);
  when 'b' then
    facts := facts || (
      select jsonb_build_object(
               'length', t.typlen, 'by_value', t.typbyval, 'category', t.typcategory, 'preferred', t.typispreferred,
               'delimiter', t.typdelim, 'alignment', t.typalign, 'storage', t.typstorage,
               'input', t.typinput::regprocedure::text, 'output', t.typoutput::regprocedure::text,
               'receive', nullif(t.typreceive, 0)::regprocedure::text, 'send', nullif(t.typsend, 0)::regprocedure::text,
               'element', nullif(t.typelem, 0)::regtype::text)
        from pg_catalog.pg_type t where t.oid = ddl_type.type);
  else null;
  end case;
  return facts;
end
$function$;

create function logship.ddl_routine(routine oid) returns jsonb
  language plpgsql stable security invoker
as $function$
declare
  facts jsonb;
begin
  select jsonb_build_object(
           'kind', p.prokind, 'owner', pg_get_userbyid(p.proowner), 'acl', logship.ddl_acl(p.proacl, 'f', p.proowner),
           'definition', case when p.prokind <> 'a' then pg_get_functiondef(p.oid) end,
           'arguments', pg_get_function_arguments(p.oid), 'result', pg_get_function_result(p.oid),
           'parallel', p.proparallel)
    into facts from pg_catalog.pg_proc p where p.oid = routine;
  if facts ->> 'kind' = 'a' then
    facts := facts || jsonb_build_object('aggregate', (
      select to_jsonb(g) from (
        select x.aggkind, x.aggnumdirectargs, x.aggtransfn::text, x.aggfinalfn::text, x.aggcombinefn::text,
               x.aggserialfn::text, x.aggdeserialfn::text, x.aggmtransfn::text, x.aggminvtransfn::text,
               x.aggmfinalfn::text, x.aggfinalextra, x.aggmfinalextra, x.aggfinalmodify, x.aggmfinalmodify,
               nullif(x.aggsortop, 0)::regoperator::text as aggsortop, x.aggtranstype::regtype::text,
               x.aggtransspace, x.aggmtranstype::regtype::text, x.aggmtransspace, x.agginitval, x.aggminitval
          from pg_catalog.pg_aggregate x where x.aggfnoid = routine) g));
  end if;
  return facts;
end
$function$;

-- Of what is neither a relation nor a type nor a routine.
create function logship.ddl_other(class oid, object oid) returns jsonb
  language plpgsql stable security invoker
as $function$
declare
  facts jsonb;
begin
  case class::regclass
  when 'pg_catalog.pg_namespace'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(n.nspowner), 'acl', logship.ddl_acl(n.nspacl, 'n', n.nspowner))
      into facts from pg_catalog.pg_namespace n where n.oid = object;

  when 'pg_catalog.pg_trigger'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(c.relowner), 'table', t.tgrelid::regclass::text,
                              'definition', pg_get_triggerdef(t.oid), 'enabled', t.tgenabled)
      into facts from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid where t.oid = object;

  when 'pg_catalog.pg_rewrite'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(c.relowner), 'table', r.ev_class::regclass::text,
                              'definition', pg_get_ruledef(r.oid), 'enabled', r.ev_enabled)
      into facts from pg_catalog.pg_rewrite r join pg_catalog.pg_class c on c.oid = r.ev_class where r.oid = object;

  when 'pg_catalog.pg_policy'::regclass then
    select jsonb_build_object(
             'owner', pg_get_userbyid(c.relowner), 'table', p.polrelid::regclass::text, 'command', p.polcmd,
             'permissive', p.polpermissive,
             'roles', (select jsonb_agg(case r when 0 then 'public' else pg_get_userbyid(r)::text end
                                        order by case r when 0 then 'public' else pg_get_userbyid(r)::text end)
                         from unnest(p.polroles) r),
             'using', pg_get_expr(p.polqual, p.polrelid), 'with_check', pg_get_expr(p.polwithcheck, p.polrelid))
      into facts from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid where p.oid = object;

  when 'pg_catalog.pg_constraint'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(coalesce(c.relowner, t.typowner)),
                              'definition', pg_get_constraintdef(k.oid), 'validated', k.convalidated)
      into facts from pg_catalog.pg_constraint k
      left join pg_catalog.pg_class c on c.oid = k.conrelid
      left join pg_catalog.pg_type t on t.oid = k.contypid where k.oid = object;

  when 'pg_catalog.pg_operator'::regclass then
    select jsonb_build_object(
             'owner', pg_get_userbyid(o.oprowner), 'function', o.oprcode::regprocedure::text,
             'result', o.oprresult::regtype::text, 'merges', o.oprcanmerge, 'hashes', o.oprcanhash,
             'commutator', nullif(o.oprcom, 0)::regoperator::text, 'negator', nullif(o.oprnegate, 0)::regoperator::text,
             'restrict', nullif(o.oprrest, 0)::regprocedure::text, 'join', nullif(o.oprjoin, 0)::regprocedure::text)
      into facts from pg_catalog.pg_operator o where o.oid = object;

  when 'pg_catalog.pg_opclass'::regclass then
    select jsonb_build_object(
             'owner', pg_get_userbyid(o.opcowner), 'family', (
               select n.nspname || '.' || f.opfname from pg_catalog.pg_opfamily f
                 join pg_catalog.pg_namespace n on n.oid = f.opfnamespace where f.oid = o.opcfamily),
             'type', o.opcintype::regtype::text, 'key_type', nullif(o.opckeytype, 0)::regtype::text,
             'default', o.opcdefault) || logship.ddl_family(o.opcfamily)
      into facts from pg_catalog.pg_opclass o where o.oid = object;

  when 'pg_catalog.pg_opfamily'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(f.opfowner)) || logship.ddl_family(f.oid)
      into facts from pg_catalog.pg_opfamily f where f.oid = object;

  when 'pg_catalog.pg_cast'::regclass then
    select jsonb_build_object(
             -- A cast has no owner. Who made it owns one of its types.
             'owner', pg_get_userbyid(case when t.oid >= 16384 then t.typowner else s.typowner end),
             'function', nullif(k.castfunc, 0)::regprocedure::text, 'context', k.castcontext, 'method', k.castmethod)
      into facts from pg_catalog.pg_cast k
      join pg_catalog.pg_type s on s.oid = k.castsource
      join pg_catalog.pg_type t on t.oid = k.casttarget where k.oid = object;

  when 'pg_catalog.pg_collation'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(c.collowner), 'provider', c.collprovider,
                              'deterministic', c.collisdeterministic, 'collate', c.collcollate, 'ctype', c.collctype)
      into facts from pg_catalog.pg_collation c where c.oid = object;

  when 'pg_catalog.pg_conversion'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(c.conowner), 'from', pg_encoding_to_char(c.conforencoding),
                              'to', pg_encoding_to_char(c.contoencoding), 'function', c.conproc::regprocedure::text,
                              'default', c.condefault)
      into facts from pg_catalog.pg_conversion c where c.oid = object;

  when 'pg_catalog.pg_ts_config'::regclass then
    select jsonb_build_object(
             'owner', pg_get_userbyid(c.cfgowner),
             'parser', (select p.prsname from pg_catalog.pg_ts_parser p where p.oid = c.cfgparser),
             'mappings', (select jsonb_agg(jsonb_build_array(
                                   (select k.alias from ts_token_type(c.cfgparser) k where k.tokid = m.maptokentype),
                                   m.mapdict::regdictionary::text) order by m.maptokentype, m.mapseqno)
                            from pg_catalog.pg_ts_config_map m where m.mapcfg = c.oid))
      into facts from pg_catalog.pg_ts_config c where c.oid = object;

  when 'pg_catalog.pg_ts_dict'::regclass then
    select jsonb_build_object(
             'owner', pg_get_userbyid(d.dictowner), 'options', d.dictinitoption,
             'template', (select t.tmplname from pg_catalog.pg_ts_template t where t.oid = d.dicttemplate))
      into facts from pg_catalog.pg_ts_dict d where d.oid = object;

  when 'pg_catalog.pg_statistic_ext'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(s.stxowner), 'definition', pg_get_statisticsobjdef(s.oid),
                              'target', nullif(s.stxstattarget, -1))
      into facts from pg_catalog.pg_statistic_ext s where s.oid = object;

  when 'pg_catalog.pg_extension'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(e.extowner), 'version', e.extversion,
                              'schema', e.extnamespace::regnamespace::text)
      into facts from pg_catalog.pg_extension e where e.oid = object;

  when 'pg_catalog.pg_language'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(l.lanowner), 'trusted', l.lanpltrusted,
                              'acl', logship.ddl_acl(l.lanacl, 'l', l.lanowner),
                              'handler', nullif(l.lanplcallfoid, 0)::regprocedure::text,
                              'inline', nullif(l.laninline, 0)::regprocedure::text,
                              'validator', nullif(l.lanvalidator, 0)::regprocedure::text)
      into facts from pg_catalog.pg_language l where l.oid = object;

  when 'pg_catalog.pg_foreign_data_wrapper'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(f.fdwowner), 'acl', logship.ddl_acl(f.fdwacl, 'F', f.fdwowner),
                              'handler', nullif(f.fdwhandler, 0)::regprocedure::text,
                              'validator', nullif(f.fdwvalidator, 0)::regprocedure::text,
                              'foreign_options', logship.ddl_foreign(f.fdwoptions))
      into facts from pg_catalog.pg_foreign_data_wrapper f where f.oid = object;

  when 'pg_catalog.pg_foreign_server'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(s.srvowner), 'acl', logship.ddl_acl(s.srvacl, 'S', s.srvowner),
                              'type', s.srvtype, 'version', s.srvversion,
                              'foreign_options', logship.ddl_foreign(s.srvoptions),
                              'wrapper', (select f.fdwname from pg_catalog.pg_foreign_data_wrapper f
                                           where f.oid = s.srvfdw))
      into facts from pg_catalog.pg_foreign_server s where s.oid = object;

  when 'pg_catalog.pg_default_acl'::regclass then
    select jsonb_build_object('owner', pg_get_userbyid(a.defaclrole), 'object', a.defaclobjtype,
                              'schema', nullif(a.defaclnamespace, 0)::regnamespace::text,
                              'acl', logship.ddl_sorted(a.defaclacl::text[]))
      into facts from pg_catalog.pg_default_acl a where a.oid = object;

  when 'pg_catalog.pg_transform'::regclass then
    -- It has no owner; who owns the type makes it.
    select jsonb_build_object('owner', pg_get_userbyid(y.typowner),
                              'from_sql', nullif(t.trffromsql, 0)::regprocedure::text,
                              'to_sql', nullif(t.trftosql, 0)::regprocedure::text)
      into facts from pg_catalog.pg_transform t join pg_catalog.pg_type y on y.oid = t.trftype where t.oid = object;

  else
    -- Access methods, user mappings (whose options hold passwords), text search parsers and templates: that they are there.
    facts := '{}';
  end case;
  return facts;
end
$function$;

-- Of anything in pg_class but composite types; `type` is what pg_identify_object() calls it. One query for each kind:
-- what a query costs before it runs, and most of all the first time, is more than what it reads. Numbers of objects are
-- compared with numbers of objects ('403', and not 403): for other operands PostgreSQL reads all operators of that name.
create function logship.ddl_relation(relation oid, type text) returns jsonb
  language plpgsql stable security invoker
as $function$
declare
  facts jsonb;
  kind "char";
  identity "char";
  tablespace oid;
  method oid;
  partition boolean;
  expressions boolean;
begin
  case
  when starts_with(type, 'index') then
    select jsonb_build_object(
             'kind', c.relkind, 'owner', pg_get_userbyid(c.relowner), 'persistence', c.relpersistence,
             'options', logship.ddl_sorted(c.reloptions),
             -- Those that nearly everything has need no look.
             'access_method', case c.relam when '403' then 'btree' end,
             'definition', pg_get_indexdef(i.indexrelid), 'table', i.indrelid::regclass,
             'valid', i.indisvalid, 'primary', nullif(i.indisprimary, false),
             'clustered', nullif(i.indisclustered, false), 'replica_identity', nullif(i.indisreplident, false),
             'comment', (select x.description from pg_catalog.pg_description x
                          where x.objoid = c.oid and x.classoid = 'pg_catalog.pg_class'::regclass::oid and x.objsubid = 0)),
           c.reltablespace, c.relam, c.relispartition, i.indexprs is not null
      into facts, tablespace, method, partition, expressions
      from pg_catalog.pg_class c join pg_catalog.pg_index i on i.indexrelid = c.oid where c.oid = relation;
    if partition then
      facts := facts || jsonb_build_object('index_of', (
        select h.inhparent::regclass from pg_catalog.pg_inherits h where h.inhrelid = relation));
    end if;
    if expressions then
      facts := facts || jsonb_build_object('statistics', (
        select jsonb_agg(a.attstattarget order by a.attnum) from pg_catalog.pg_attribute a
         where a.attrelid = relation and a.attstattarget >= 0));
    end if;

  when starts_with(type, 'sequence') then
    select jsonb_build_object(
             'kind', c.relkind, 'owner', pg_get_userbyid(c.relowner), 'persistence', c.relpersistence,
             'acl', coalesce(c.relacl, acldefault('s', c.relowner)),
             'type', s.seqtypid::regtype, 'start', s.seqstart, 'increment', s.seqincrement,
             'min', s.seqmin, 'max', s.seqmax, 'cache', s.seqcache, 'cycle', s.seqcycle,
             'owned_by', (select (pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid)).identity
                            from pg_catalog.pg_depend d
                           where d.classid = 'pg_catalog.pg_class'::regclass::oid and d.objid = c.oid and d.refobjsubid > 0
                             and d.refclassid = 'pg_catalog.pg_class'::regclass::oid and d.deptype in ('a', 'i')),
             -- Never asked when the caller may not read it: that would be an error.
             'last_value', case when has_sequence_privilege(c.oid, 'select') then pg_sequence_last_value(c.oid) end,
             'comment', (select x.description from pg_catalog.pg_description x
                          where x.objoid = c.oid and x.classoid = 'pg_catalog.pg_class'::regclass::oid and x.objsubid = 0)),
           c.reltablespace, c.relam
      into facts, tablespace, method
      from pg_catalog.pg_class c join pg_catalog.pg_sequence s on s.seqrelid = c.oid where c.oid = relation;

  else
    select jsonb_build_object(
             'kind', c.relkind, 'owner', pg_get_userbyid(c.relowner), 'persistence', c.relpersistence,
             'acl', coalesce(c.relacl, acldefault('r', c.relowner)),
             'options', logship.ddl_sorted(c.reloptions),
             'access_method', case c.relam when '2' then 'heap' end,
             'comment', x.comments ->> '0'::text,
             'columns', case when c.relkind in ('r', 'p', 'f', 'v', 'm') then (
               select jsonb_agg(jsonb_build_object(
                        'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                        'not_null', nullif(a.attnotnull, false),
                        'default', case when a.atthasdef then (
                          select pg_get_expr(d.adbin, d.adrelid) from pg_catalog.pg_attrdef d
                           where d.adrelid = a.attrelid and d.adnum = a.attnum) end)
                        -- Most columns have nothing of this, and a wide table has many of them.
                        || case when a.atttypid >= '16384' or a.attgenerated <> '' or a.attidentity <> ''
                                  or a.attcollation <> t.typcollation or a.attstorage <> t.typstorage
                                  or a.attcompression <> '' or a.attstattarget <> -1 or a.attacl is not null
                                  or a.attoptions is not null or a.attfdwoptions is not null or a.atthasmissing
                                  or x.comments is not null then jsonb_build_object(
                        'type_default', case when a.atttypid >= '16384' then t.typdefault end,
                        'generated', nullif(a.attgenerated, ''), 'identity', nullif(a.attidentity, ''),
                        'collation', case when a.attcollation <> t.typcollation then a.attcollation::regcollation end,
                        'storage', case when a.attstorage <> t.typstorage then a.attstorage end,
                        'compression', nullif(a.attcompression, ''),
                        'statistics', nullif(a.attstattarget, -1),
                        'acl', logship.ddl_sorted(a.attacl::text[]), 'options', logship.ddl_sorted(a.attoptions),
                        'foreign_options', logship.ddl_foreign(a.attfdwoptions),
                        'missing', case when a.atthasmissing then (a.attmissingval::text::text[])[1] end,
                        'comment', x.comments ->> a.attnum::text) else '{}' end order by a.attnum)
                 from pg_catalog.pg_attribute a
                 join pg_catalog.pg_type t on t.oid = a.atttypid
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) end,
             'replica_identity', case when c.relkind in ('r', 'p', 'f') then c.relreplident end,
             'row_security', nullif(c.relrowsecurity, false),
             'force_row_security', nullif(c.relforcerowsecurity, false),
             'of_type', nullif(c.reloftype, '0')::regtype,
             'partition_key', case c.relkind when 'p' then pg_get_partkeydef(c.oid) end,
             'partition_bound', pg_get_expr(c.relpartbound, c.oid),
             'inherits', (select jsonb_agg(h.inhparent::regclass order by h.inhseqno)
                            from pg_catalog.pg_inherits h where h.inhrelid = c.oid),
             'constraints', (
               -- From 18 on NOT NULL stands here too; the columns say it in every version.
               select jsonb_agg(jsonb_build_object(
                        'name', k.conname, 'type', k.contype, 'definition', pg_get_constraintdef(k.oid),
                        'validated', k.convalidated) order by k.conname)
                 from pg_catalog.pg_constraint k
                where k.conrelid = c.oid and k.contype not in ('n', 't')),
             'definition', case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end,
             'populated', case c.relkind when 'm' then c.relispopulated end),
           c.relkind, c.relreplident, c.reltablespace, c.relam
      into facts, kind, identity, tablespace, method
      from pg_catalog.pg_class c,
           -- All at once: 0 is the table's.
           (select jsonb_object_agg(d.objsubid, d.description) as comments from pg_catalog.pg_description d
             where d.objoid = relation and d.classoid = 'pg_catalog.pg_class'::regclass::oid) x
     where c.oid = relation;
    if identity = 'i' and kind in ('r', 'p') then
      facts := facts || jsonb_build_object('replica_identity', 'index ' || coalesce((
        select x.relname::text from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
         where i.indrelid = relation and i.indisreplident), ''));
    end if;
    if kind = 'f' then
      facts := facts || (
        select jsonb_build_object('server', s.srvname, 'foreign_options', logship.ddl_foreign(f.ftoptions))
          from pg_catalog.pg_foreign_table f join pg_catalog.pg_foreign_server s on s.oid = f.ftserver
         where f.ftrelid = relation);
    end if;
  end case;
  if method not in ('0', '2', '403') then
    facts := facts || jsonb_build_object(
      'access_method', (select a.amname from pg_catalog.pg_am a where a.oid = method));
  end if;
  if tablespace <> '0' then
    facts := facts || jsonb_build_object(
      'tablespace', (select t.spcname from pg_catalog.pg_tablespace t where t.oid = tablespace));
  end if;
  return jsonb_strip_nulls(facts);
end
$function$;

-- These are called once per column: without a list they aren't.
create function logship.ddl_sorted(list text[]) returns jsonb
  language plpgsql immutable strict parallel safe
as $function$
begin
  return (select jsonb_agg(x order by x collate "C") from unnest(list) x);
end
$function$;

-- Options of foreign data may be secrets: their names, and of the values enough to tell two apart.
create function logship.ddl_foreign(options text[]) returns jsonb
  language plpgsql immutable strict parallel safe
as $function$
begin
  return (
    select jsonb_agg(o.name || '=' || left(encode(sha256(convert_to(o.name || '=' || o.value, 'UTF8')), 'hex'), 16)
                     order by o.name collate "C")
      from (select split_part(x, '=', 1) as name, substr(x, strpos(x, '=') + 1) as value from unnest(options) x) o);
end
$function$;

-- No privileges written down means the default ones; that is the same, and so they look the same. Their order says nothing.
create function logship.ddl_acl(acl aclitem[], kind "char", owner oid) returns jsonb
  language plpgsql stable parallel safe
as $function$
begin
  return to_jsonb(coalesce(acl, acldefault(kind, owner))::text[]);
end
$function$;

create function logship.ddl_family(family oid) returns jsonb
  language plpgsql stable
as $function$
begin
  return jsonb_build_object(
    'operators', (select jsonb_agg(jsonb_build_array(a.amopstrategy, a.amopopr::regoperator::text, a.amoppurpose)
                                   order by a.amopstrategy, a.amopopr::regoperator::text)
                    from pg_catalog.pg_amop a where a.amopfamily = family),
    'functions', (select jsonb_agg(jsonb_build_array(p.amprocnum, p.amproc::regprocedure::text)
                                   order by p.amprocnum, p.amproc::regprocedure::text)
                    from pg_catalog.pg_amproc p where p.amprocfamily = family));
end
$function$;

-- An object with its address, as pg_get_object_address() takes it on the other side. Null when it isn't there.
create function logship.ddl_described(class oid, object oid, subobject int) returns jsonb
  language plpgsql stable security invoker
as $function$
declare
  facts jsonb;
  identified constant record := pg_identify_object(class, object, subobject);
  address record;
  owner text;
begin
  if class <> 'pg_catalog.pg_class'::regclass::oid then
    facts := logship.ddl_facts(class, object);
  elsif starts_with(identified.type, 'composite type') then
    -- pg_get_object_address() knows a composite type as a type only.
    return logship.ddl_described('pg_catalog.pg_type'::regclass, (
      select c.reltype from pg_catalog.pg_class c where c.oid = object), 0);
  else
    facts := logship.ddl_relation(object, identified.type);
  end if;
  if facts is null then
    return null;
  end if;
  owner := facts ->> 'owner'::text;
  if owner is null then
    owner := logship.ddl_owner(class, object);
  end if;
  address := pg_identify_object_as_address(class, object, subobject);
  return jsonb_build_object(
    'class', class::regclass, 'type', identified.type, 'names', address.object_names,
    'args', address.object_args, 'identity', identified.identity, 'schema', identified.schema,
    'owner', owner, 'facts', facts);
end
$function$;

-- Of what the catalog gives no owner.
create function logship.ddl_owner(class oid, object oid) returns text
  language plpgsql stable security invoker
as $function$
begin
  return case
    -- Only superusers make these.
    when class in ('pg_catalog.pg_am'::regclass, 'pg_catalog.pg_ts_parser'::regclass, 'pg_catalog.pg_ts_template'::regclass)
      then pg_get_userbyid(10)
    when class = 'pg_catalog.pg_user_mapping'::regclass then (
      select pg_get_userbyid(s.srvowner) from pg_catalog.pg_user_mappings m
        join pg_catalog.pg_foreign_server s on s.oid = m.srvid where m.umid = object) end;
end
$function$;

create function logship.ddl_object(class oid, object oid, subobject int) returns jsonb
  language plpgsql stable security invoker
  set search_path = pg_catalog, pg_temp
  set datestyle = 'ISO, MDY'
  set intervalstyle = postgres
  set timezone = 'UTC'
  set extra_float_digits = 1
  set bytea_output = hex
  set quote_all_identifiers = off
  set standard_conforming_strings = on
  -- Planning and compiling would cost ten times what running does, and so would hashing a catalog for a few rows.
  set plan_cache_mode = force_generic_plan
  set enable_hashjoin = off
  set enable_mergejoin = off
  set enable_seqscan = off
  set enable_bitmapscan = off
  set jit = off
as $function$
begin
  return logship.ddl_described(class, object, subobject);
end
$function$;

-- The same by address; null when there is no such object (of that kind).
create function logship.ddl_object_at(type text, names text[], args text[]) returns jsonb
  language plpgsql stable security invoker
  set search_path = pg_catalog, pg_temp
  set datestyle = 'ISO, MDY'
  set intervalstyle = postgres
  set timezone = 'UTC'
  set extra_float_digits = 1
  set bytea_output = hex
  set quote_all_identifiers = off
  set standard_conforming_strings = on
  -- Planning and compiling would cost ten times what running does, and so would hashing a catalog for a few rows.
  set plan_cache_mode = force_generic_plan
  set enable_hashjoin = off
  set enable_mergejoin = off
  set enable_seqscan = off
  set enable_bitmapscan = off
  set jit = off
as $function$
declare
  address record;
begin
  begin
    if type = 'operator' and cardinality(args) = 1 then
      -- A prefix operator: pg_get_object_address() wants two arguments, and has no word for none.
      select 'pg_catalog.pg_operator'::regclass::oid as classid, o.oid as objid, 0 as objsubid into strict address
        from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
       where n.nspname = names[1] and o.oprname = names[2] and o.oprleft = 0 and o.oprright = args[1]::regtype;
    else
      -- It knows the columns of tables only, and takes them for those of whatever has that name.
      address := pg_get_object_address(case when type like '% column' then 'table column' else type end, names, args);
    end if;
  exception
    when undefined_object or undefined_table or undefined_column or undefined_function or invalid_schema_name
      or wrong_object_type or no_data_found then
      return null;
  end;
  return logship.ddl_described(address.classid, address.objid, address.objsubid);
end
$function$;

revoke all on function logship.ddl_facts(oid, oid), logship.ddl_type(oid), logship.ddl_routine(oid),
  logship.ddl_other(oid, oid), logship.ddl_relation(oid, text), logship.ddl_sorted(text[]),
  logship.ddl_foreign(text[]), logship.ddl_acl(aclitem[], "char", oid), logship.ddl_family(oid),
  logship.ddl_described(oid, oid, int), logship.ddl_owner(oid, oid), logship.ddl_object(oid, oid, int),
  logship.ddl_object_at(text, text[], text[]) from public;
