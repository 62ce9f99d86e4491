"""What a test or an operator arranges on a server: accounts and their keys, organisations, protected aliases."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

from wandb_airflow_provider.devserver import accounts, api_keys, identity_tokens
from wandb_airflow_provider.devserver.accounts import DEFAULT_ORGANIZATION, DEFAULT_USER
from wandb_airflow_provider.devserver.artifacts import protection
from wandb_airflow_provider.devserver.artifacts.names import REGISTRY_PREFIX
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.resolvers.account_changes import add_service_account
from wandb_airflow_provider.devserver.resolvers.projects import get_project
from wandb_airflow_provider.devserver.resolvers.registry import seed_organization


class Administration:
    """
    Changes that need no key.

    :param backend: The server that is changed; a subclass may have it as a property instead.
    """

    backend: Backend

    def add_account(
        self,
        username: str,
        *,
        role: str = "member",
        teams: Sequence[str] = (),
        expires_at: datetime | None = None,
    ) -> str:
        """
        Create an account and return an API key for it.

        :param role: ``admin``, ``member`` or ``read-only``.
        :param teams: Its team entities, created if needed; the first is its default entity.
        :param expires_at: When the key stops being valid.
        """
        key = api_keys.new_secret()
        with self.backend.store.write() as conn:
            accounts.add_account(conn, username, role=role, teams=teams, now=self._timestamp())
            api_keys.add(conn, username, key, expires_at=expires_at)
        return key

    def add_service_account(self, team: str, description: str, *, role: str = "member") -> str:
        """
        Create an account of a team that is no person, and return an API key for it.

        :param description: What it is for.
        :param role: ``admin``, ``member`` or ``read-only``.
        """
        with self.backend.store.write() as conn:
            return add_service_account(conn, team, description, self._timestamp(), role)[1]

    def add_organization(self, name: str, *, admins: Sequence[str] = (DEFAULT_USER,)) -> None:
        """
        Create an organisation with the registries that each starts with, unless it exists.

        :param admins: User names of existing accounts that administer it.
        """
        with self.backend.store.write() as conn:
            now = self._timestamp()
            accounts.add_entity(
                conn, accounts.check_name("an organization", name), accounts.ORGANIZATION, now
            )
            seed_organization(conn, name, now)
            for username in admins:
                _require_account(conn, username)
                accounts.add_member(conn, username, name, now, role="admin")

    def add_team(self, name: str, *, organization: str = DEFAULT_ORGANIZATION) -> None:
        """
        Create a team of an organisation, unless it exists.

        :raises ValueError: there is no such organisation.
        """
        with self.backend.store.write() as conn:
            found = accounts.find_entity(conn, organization)
            if found is None or found["kind"] != accounts.ORGANIZATION:
                raise ValueError(f"the dev server has no organization {organization!r}: add it first")
            accounts.add_entity(
                conn, accounts.check_name("a team", name), accounts.TEAM, self._timestamp(), organization
            )

    def add_member(self, team: str, username: str, *, role: str = "member") -> None:
        """
        Put an account into a team, or change its role there.

        :param role: ``admin``, ``member`` or ``viewer``.
        :raises ValueError: there is no such account or role.
        """
        if role not in accounts.ROLES:
            raise ValueError(
                f"there is no role {role!r} in a team, only {', '.join(map(repr, accounts.ROLES))}"
            )
        with self.backend.store.write() as conn:
            _require_account(conn, username)
            accounts.add_member(conn, username, team, self._timestamp(), role)

    def create_key(
        self,
        username: str = DEFAULT_USER,
        *,
        read_only: bool = False,
        teams: Mapping[str, str] | Sequence[str] | None = None,
        expires_at: datetime | None = None,
        description: str | None = None,
    ) -> str:
        """
        Return a further API key of an account.

        :param read_only: Whether it may write nowhere.
        :param teams: The only entities that it is for: names, or names with ``read`` or ``write``.
        :param expires_at: When it stops being valid.
        :raises ValueError: there is no such account.
        """
        limits = teams if teams is None or isinstance(teams, Mapping) else dict.fromkeys(teams, "write")
        key = api_keys.new_secret()
        with self.backend.store.write() as conn:
            _require_account(conn, username)
            api_keys.add(
                conn,
                username,
                key,
                description=description,
                read_only=read_only,
                limits=limits,
                expires_at=expires_at,
            )
        return key

    def protect_alias(self, registry: str, alias: str, *, organization: str = DEFAULT_ORGANIZATION) -> None:
        """
        Let only admins of a registry give, move or take away an alias in it. W&B's SDK cannot do this.

        :param registry: Its name, without the prefix of its project.
        :raises ValueError: there is no such registry.
        """
        with self.backend.store.write() as conn:
            protection.protect(conn, _registry(conn, organization, registry), alias)

    def unprotect_alias(self, registry: str, alias: str, *, organization: str = DEFAULT_ORGANIZATION) -> None:
        """Undo :meth:`protect_alias`."""
        with self.backend.store.write() as conn:
            protection.unprotect(conn, _registry(conn, organization, registry), alias)

    def protected_aliases(self, registry: str, *, organization: str = DEFAULT_ORGANIZATION) -> list[str]:
        """Return the protected aliases of a registry by name."""
        with self.backend.store.read() as conn:
            return protection.listed(conn, _registry(conn, organization, registry)["internal_id"])

    def issue_identity_token(
        self,
        username: str = DEFAULT_USER,
        *,
        seconds: float = identity_tokens.TOKEN_SECONDS,
        audience: str = identity_tokens.AUDIENCE,
        access_seconds: int = identity_tokens.TOKEN_SECONDS,
    ) -> str:
        """
        Return an identity token for a file that ``WANDB_IDENTITY_TOKEN_FILE`` names.

        :param seconds: For how long it can be exchanged for access tokens, by the server's clock.
        :param audience: For whom it is: ``wandb`` or the account's organization; any other is refused at the exchange.
        :param access_seconds: For how long such an access token is good. The SDK gets another one five minutes earlier.
        :raises ValueError: there is no such account.
        """
        return identity_tokens.issue(
            self.backend, username, seconds=seconds, audience=audience, access_seconds=access_seconds
        )

    def distrust_identity_tokens(self) -> None:
        """Refuse all identity tokens issued so far; access tokens got for them stay good."""
        identity_tokens.distrust(self.backend)

    def expire_access_tokens(self, username: str | None = None) -> int:
        """
        Let the access tokens got for identity tokens end now, of all accounts unless one is named; return how many.

        Clients go on with the token that they have until they take it for old, so their requests are refused.
        """
        with self.backend.store.write() as conn:
            return api_keys.expire_all(conn, self.backend.now(), username, api_keys.TOKEN)

    def revoke_access_tokens(self, username: str | None = None) -> int:
        """Forget the access tokens got for identity tokens, of all accounts unless one is named; return how many."""
        with self.backend.store.write() as conn:
            return api_keys.revoke_all(conn, username, api_keys.TOKEN)

    def _timestamp(self) -> str:
        return stamp(self.backend.now())


def _require_account(conn: sqlite3.Connection, username: str) -> None:
    if accounts.find_account(conn, username) is None:
        raise ValueError(f"the dev server has no user {username!r}: add the account first")


def _registry(conn: sqlite3.Connection, organization: str, registry: str) -> sqlite3.Row:
    row = get_project(conn, organization, f"{REGISTRY_PREFIX}{registry}")
    if row is None:
        raise ValueError(f"the dev server has no registry {registry!r} in organization {organization!r}")
    return row
