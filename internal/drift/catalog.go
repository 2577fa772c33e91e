package drift

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// readFacts reads the catalogue. What belongs to an extension is the extension's.
func readFacts(ctx context.Context, tx pgx.Tx) ([]Fact, error) {
	rows, err := tx.Query(ctx, `
		with recursive api as (
		  select oid, rolname::text as name from pg_roles where rolname in ('anon', 'authenticated', 'service_role')),
		reach (oid) as ( -- whose grants reach the Data API
		  select oid from api
		  union
		  select m.roleid from pg_auth_members m join reach on reach.oid = m.member),
		grantee as (
		  select oid, quote_ident(rolname) as name from pg_roles where oid in (select oid from reach)
		  union all
		  select 0, 'public'),
		ns as (select oid, nspname, nspacl, nspowner from pg_namespace where nspname in ('public', 'ops')),
		rel as (
		  select c.oid, c.relkind, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, ns.nspname,
		         format('%I.%I', ns.nspname, c.relname) as name,
		         case when c.relispartition then coalesce(pg_partition_root(c.oid)::regclass::text, '') else '' end as parent
		  from pg_class c
		  join ns on ns.oid = c.relnamespace
		  where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
		    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')),
		fn as (
		  select p.*, p.oid::regprocedure::text as name
		  from pg_proc p
		  join ns on ns.oid = p.pronamespace
		  where p.prokind in ('f', 'p', 'w')
		    and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')),
		acl as (
		  select case relkind when 'S' then 'sequence' else 'table' end as type, name, '' as col, (aclexplode(relacl)).*, relowner as owner from rel
		  union all
		  select 'table', name, format(' (%I)', a.attname), (aclexplode(a.attacl)).*, relowner
		  from rel join pg_attribute a on a.attrelid = rel.oid where a.attacl is not null and not a.attisdropped
		  union all
		  select case prokind when 'p' then 'procedure' else 'function' end, name, '', (aclexplode(coalesce(proacl, acldefault('f', proowner)))).*, proowner from fn
		  union all
		  select 'schema', nspname::text, '', (aclexplode(nspacl)).*, nspowner from ns),
		granted as (
		  select type, acl.name, lower(privilege_type) || col || ' on ' || type || ' ' || acl.name as what, g.name as grantee, bool_or(is_grantable) as grantable
		  from acl
		  join grantee g on g.oid = acl.grantee
		  where acl.grantee <> acl.owner
		    -- Everybody may look into schema public, unless somebody forbade that: who may do so by name is what counts.
		    and not (type = 'schema' and acl.name = 'public' and g.name = 'public' and privilege_type = 'USAGE')
		  group by type, acl.name, privilege_type, col, g.name),
		fact as (
		  select 'role' as kind, r.rolname::text as object, '' as name, '' as parent,
		         array['superuser: ' || (case when rolsuper then 'yes' else 'no' end)]
		         || case when r.rolname <> 'service_role' then array[
		              'bypasses row-level security: ' || (case when rolbypassrls then 'yes' else 'no' end),
		              'signs in: ' || (case when rolcanlogin then 'yes' else 'no' end)] else '{}' end as parts,
		         'alter role ' || rolname || ' nosuperuser' || (case when r.rolname <> 'service_role' then ' nobypassrls nologin;' else ';' end) as make, '' as drop
		  from pg_roles r join api using (oid)
		  union all
		  select 'membership', api.name, r.rolname::text, '', array['member: yes'],
		         format('grant %I to %I;', r.rolname, api.name), format('revoke %I from %I;', r.rolname, api.name)
		  from pg_auth_members m join api on api.oid = m.member and api.name <> 'service_role' join pg_roles r on r.oid = m.roleid
		  union all
		  select 'function', fn.name, '', '',
		         array['returns: ' || coalesce(pg_get_function_result(fn.oid), 'nothing'),
		               'language: ' || l.lanname,
		               'runs with the rights of: ' || (case when prosecdef then 'its owner' else 'the caller' end),
		               'settings: ' || coalesce((select string_agg(c, ', ' order by c) from unnest(proconfig) c), 'none'),
		               'volatility: ' || (case provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end),
		               'parallel: ' || (case proparallel when 's' then 'safe' when 'r' then 'restricted' else 'unsafe' end),
		               'strict: ' || (case when proisstrict then 'yes' else 'no' end),
		               'leakproof: ' || (case when proleakproof then 'yes' else 'no' end),
		               'owner: ' || coalesce((select name from api where oid = proowner), 'the program'),
		               'body:', coalesce(pg_get_function_sqlbody(fn.oid), prosrc)],
		         rtrim(pg_get_functiondef(fn.oid), E'\n') || ';',
		         format('drop %s %s;', case prokind when 'p' then 'procedure' else 'function' end, fn.name)
		  from fn join pg_language l on l.oid = prolang
		  union all
		  select 'table', rel.name, '', parent,
		         array['kind: ' || (case relkind when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table' else 'table' end),
		               'row-level security: ' || (case when relrowsecurity then 'on' else 'off' end),
		               'also for the owner: ' || (case when relforcerowsecurity then 'yes' else 'no' end),
		               'owner: ' || coalesce((select name from api where oid = relowner), 'the program')],
		         '', ''
		  from rel where relkind <> 'S'
		  union all
		  select 'sequence', rel.name, '', '', '{}', '', '' from rel where relkind = 'S'
		  union all
		  select 'rule', rel.name, r.rulename::text, parent, array['definition: ' || pg_get_ruledef(r.oid)],
		         pg_get_ruledef(r.oid), format('drop rule %I on %s;', r.rulename, rel.name)
		  from pg_rewrite r join rel on rel.oid = r.ev_class where r.rulename <> '_RETURN'
		  union all
		  select 'trigger', rel.name, t.tgname::text, case when t.tgparentid <> 0 then parent else '' end,
		         array['enabled: ' || (case tgenabled when 'O' then 'yes' when 'D' then 'no' when 'R' then 'replica' else 'always' end),
		               'definition: ' || pg_get_triggerdef(t.oid)],
		         pg_get_triggerdef(t.oid) || ';', format('drop trigger %I on %s;', t.tgname, rel.name)
		  from pg_trigger t
		  join (select oid, name, parent from rel union all
		        select 'auth.users'::regclass, 'auth.users', '') rel on rel.oid = t.tgrelid
		  where not t.tgisinternal
		    and (t.tgparentid = 0 or t.tgenabled <> 'O') -- of partitions only those that are not as their table's
		    and (rel.name <> 'auth.users' or t.tgfoid in (select fn.oid from fn where fn.name like 'ops.%'))
		  union all
		  select 'policy', rel.name, p.polname::text, parent,
		         array['mode: ' || p.mode, 'for: ' || p.verb, 'to: ' || p.roles,
		               'using: ' || coalesce(p.qual, 'nothing given'), 'with check: ' || coalesce(p.withcheck, 'nothing given')],
		         format('create policy %I on %s as %s for %s to %s', p.polname, rel.name, p.mode, p.verb, p.roles)
		         || coalesce(' using (' || p.qual || ')', '') || coalesce(' with check (' || p.withcheck || ')', '') || ';',
		         format('drop policy %I on %s;', p.polname, rel.name)
		  from (select polname, polrelid, pg_get_expr(polqual, polrelid) as qual, pg_get_expr(polwithcheck, polrelid) as withcheck,
		               case when polpermissive then 'permissive' else 'restrictive' end as mode,
		               case polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end as verb,
		               (select string_agg(coalesce(quote_ident(r.rolname), 'public'), ', ' order by r.rolname)
		                from unnest(polroles) o left join pg_roles r on r.oid = o) as roles
		        from pg_policy) p
		  join rel on rel.oid = p.polrelid
		  union all
		  select 'grant', case type when 'schema' then 'schema ' || name else name end, what || ' to ' || grantee, '',
		         array['may grant it to others: ' || (case when grantable then 'yes' else 'no' end)],
		         'grant ' || what || ' to ' || grantee || (case when grantable then ' with grant option;' else ';' end), 'revoke ' || what || ' from ' || grantee || ';'
		  from granted
		  union all
		  -- What others made in schema public and left open.
		  select 'exposed', rel.name, case relkind when 'f' then 'foreign table' else 'table' end, parent,
		         array['row-level security: off', 'reached by: ' || reached.by],
		         '', case relkind when 'f' then format('revoke all on table %s from public, anon, authenticated;', rel.name)
		             else format('alter table %s enable row level security;', rel.name) end
		  from rel,
		       lateral (select string_agg(api.name, ', ' order by api.name) as by from api
		                where api.name <> 'service_role'
		                  and (has_table_privilege(api.oid, rel.oid, 'select, insert, update, delete, truncate') or has_any_column_privilege(api.oid, rel.oid, 'select, insert, update'))) reached
		  where nspname = 'public' and relkind in ('r', 'p', 'f') and not relrowsecurity and reached.by is not null
		  union all
		  select 'exposed', rel.name, case relkind when 'm' then 'materialized view' else 'view' end, '',
		         array['reads without row-level security: ' || deps.tables, 'reached by: ' || reached.by],
		         '', case relkind when 'm' then format('revoke all on table %s from public, anon, authenticated;', rel.name)
		             else format('alter view %s set (security_invoker = true);', rel.name) end
		  from rel,
		       lateral (select string_agg(api.name, ', ' order by api.name) as by from api
		                where api.name <> 'service_role' and has_table_privilege(api.oid, rel.oid, 'select, insert, update, delete')) reached,
		       lateral (select string_agg(distinct base.name, ', ' order by base.name) as tables
		                from pg_rewrite w join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass
		                join rel base on base.oid = d.refobjid
		                where w.ev_class = rel.oid and base.oid <> rel.oid and (base.relrowsecurity or base.nspname = 'ops' or exists (select from pg_policy y where y.polrelid = base.oid))) deps
		  where nspname = 'public' and relkind in ('v', 'm') and reached.by is not null and deps.tables is not null
		    and (relkind = 'm' or not coalesce(reloptions && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1', 'security_invoker=yes'], false)))
		select kind, object, name, parent, parts, make, drop from fact
		order by kind collate "C", object collate "C", name collate "C"`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[Fact])
}
