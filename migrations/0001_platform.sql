-- What Supabase brings along and plain Postgres lacks: the API roles, schema
-- auth and its functions. Everything is made only where it is missing; on
-- Supabase this file changes nothing but creating schema ops.

-- +goose Up
-- +goose StatementBegin
do $$
declare
  missing text;
begin
  for missing in
    select r from unnest(array['anon', 'authenticated', 'service_role']) r
    where not exists (select from pg_roles where rolname = r)
  loop
    begin
      execute format('create role %I nologin', missing);
    exception
      when duplicate_object or unique_violation then null; -- roles belong to the server: another database's migration may be first
      when insufficient_privilege then
        raise exception 'role % is missing and % may not create it', missing, current_user
          using hint = format('As a superuser run: create role %I nologin; grant %I to %I;', missing, missing, current_user);
    end;
    if missing = 'service_role' then
      begin
        alter role service_role bypassrls;
      exception when insufficient_privilege then
        null; -- only a superuser may; nothing of ours signs in as service_role
      end;
    end if;
  end loop;

  -- Reading as a learner is "set local role authenticated": the role we sign in
  -- as has to be a member. A superuser always is.
  for missing in
    select r from unnest(array['anon', 'authenticated', 'service_role']) r
    where not pg_has_role(current_user, r, case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end)
  loop
    begin
      execute format('grant %I to %I', missing, current_user);
    exception when insufficient_privilege then
      raise exception 'role % is not a member of %, so pages of team leads could not be read through row-level security', current_user, missing
        using hint = format('As a superuser run: grant %I to %I;', missing, current_user);
    end;
  end loop;
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
