-- What Supabase brings along and plain Postgres lacks: the API roles, schema
-- auth and its functions. Everything is made only where it is missing; on
-- Supabase this file changes nothing but creating schema ops.

-- +goose Up
-- +goose StatementBegin
do $$
declare
  api_role text;
  to_do    text := '';
begin
  foreach api_role in array array['anon', 'authenticated', 'service_role'] loop
    if not exists (select from pg_roles where rolname = api_role) then
      begin
        execute format('create role %I nologin', api_role);
      exception
        when duplicate_object or unique_violation then null; -- roles belong to the server: another database's migration may be first
        when insufficient_privilege then
          to_do := to_do || format('create role %I nologin; grant %I to %I; ', api_role, api_role, current_user);
          continue;
      end;
      if api_role = 'service_role' then
        begin
          alter role service_role bypassrls;
        exception when insufficient_privilege then
          null; -- only a superuser may; nothing of ours signs in as service_role
        end;
      end if;
    end if;

    -- Reading as a learner is "set local role authenticated": the role we sign
    -- in as has to be a member. A superuser always is.
    if not pg_has_role(current_user, api_role, case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end) then
      begin
        execute format('grant %I to %I', api_role, current_user);
      exception when insufficient_privilege then
        to_do := to_do || format('grant %I to %I; ', api_role, current_user);
      end;
    end if;
  end loop;

  if to_do <> '' then
    raise exception 'role % may not set up the roles that row-level security needs', current_user
      using errcode = 'insufficient_privilege', hint = 'As a superuser run: ' || rtrim(to_do);
  end if;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
do $$
begin
  if to_regclass('auth.users') is not null then
    return;
  end if;
  create schema if not exists auth;
  create table auth.users (
    id                 uuid primary key,
    aud                varchar(255),
    role               varchar(255),
    email              varchar(255),
    raw_app_meta_data  jsonb,
    raw_user_meta_data jsonb,
    created_at         timestamptz default now(),
    updated_at         timestamptz,
    last_sign_in_at    timestamptz,
    banned_until       timestamptz,
    deleted_at         timestamptz,
    is_anonymous       boolean not null default false
  );
  create unique index users_email_key on auth.users (lower(email));
  alter table auth.users enable row level security;

  create function auth.jwt() returns jsonb language sql stable as $f$
    select coalesce(nullif(current_setting('request.jwt.claim', true), ''),
                    nullif(current_setting('request.jwt.claims', true), ''))::jsonb
  $f$;
  create function auth.uid() returns uuid language sql stable as $f$
    select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
  $f$;
  create function auth.role() returns text language sql stable as $f$
    select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),
                    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
  $f$;
  create function auth.email() returns text language sql stable as $f$
    select coalesce(nullif(current_setting('request.jwt.claim.email', true), ''),
                    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email')
  $f$;
  grant usage on schema auth to anon, authenticated, service_role;
end $$;
-- +goose StatementEnd

grant usage on schema public to anon, authenticated, service_role;

-- Schema ops is the dashboard's own and closed to the Data API's roles. (The
-- migrator made it already, for its version table.)
create schema if not exists ops;
revoke all on schema ops from public, anon, authenticated, service_role;

-- +goose Down
-- Roles and auth stay: other programs use them too. Schema ops stays: it holds
-- the version table.
select 1;
