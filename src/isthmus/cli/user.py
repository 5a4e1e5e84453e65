"""``isthmus user``: the local users of one machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli.session import Session, noun_app, verb
from isthmus.model.caller import Role
from isthmus.model.errors import HostFailure, Invalid, NotFound

if TYPE_CHECKING:
    from isthmus.service.identity.local import User

app = noun_app('Local users: who may use the service over TCP with auth = "local". On the service\'s machine.')


@verb(app, "add", "isthmus user add alice --project demo", "isthmus user add ops --system --role admin")
def add(
    cli: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the user")],
    *,
    project: Annotated[str, typer.Option(metavar="PROJECT", help="the project that he acts for")] = "",
    system: Annotated[bool, typer.Option("--system", help="his role is on the whole system")] = False,
    role: Annotated[list[Role] | None, typer.Option(help="what he may do; may be repeated; default: member")] = None,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a file that holds the password; default: ask for it")
    ] = None,
) -> None:
    """Add a user, or give one another password, project or role. The password is never an argument."""
    from isthmus.service.identity.local import SYSTEM, make_user  # noqa: PLC0415 - the service's libraries

    if system == bool(project):
        raise Invalid("cannot tell for whom he acts: give --project PROJECT or --system", field="project")
    made = make_user(name, _password(password_file), SYSTEM if system else project, role or [Role.MEMBER])
    _write({**_present(cli), made.name: made}, cli.config.users)
    cli.out.say(f"user {made.name} may use the service")


@verb(app, "remove", "isthmus user remove alice")
def remove(cli: Session, name: Annotated[str, typer.Argument(metavar="NAME", help="the user")]) -> None:
    """Remove a user. What he has made stays."""
    present = _present(cli)
    if name not in present:
        raise NotFound("user", name)
    _write({other: user for other, user in present.items() if other != name}, cli.config.users)
    cli.out.say(f"user {name} is removed")


@verb(app, "list", "isthmus user list")
def list_(cli: Session) -> None:
    """List users, their projects and roles."""
    from isthmus.service.identity.local import SYSTEM  # noqa: PLC0415 - see above

    rows = [[user.name, user.project or SYSTEM, ",".join(sorted(user.roles))] for user in _present(cli).values()]
    cli.out.table(["name", "project", "roles"], sorted(rows))


def _present(cli: Session) -> dict[str, User]:
    from isthmus.service.identity.local import UsersFile  # noqa: PLC0415 - see above

    if not cli.config.users.exists():
        return {}
    return dict(UsersFile(cli.config.users).users())


def _write(wanted: dict[str, User], path: Path) -> None:
    from isthmus.service.identity.local import UsersFile  # noqa: PLC0415 - see above

    try:
        UsersFile(path).write(wanted)
    except OSError as error:
        raise HostFailure(f"cannot write {path}: {error.strerror}") from error


def _password(path: Path | None) -> str:
    if path is None:
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return asked
    try:
        return path.read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise HostFailure(f"cannot read the password in {path}: {error}") from error
