"""``isthmus policy``: who may do what."""

from __future__ import annotations

from isthmus.cli.session import Session, noun_app, verb

app = noun_app("The policy: which roles may do what.")


@verb(app, "sample", "isthmus policy sample > /etc/isthmus/policy.yaml")
def sample_(cli: Session) -> None:
    """Write a policy file that has all rules as comments, with their defaults."""
    from isthmus.service.policy import sample  # noqa: PLC0415 - the service's libraries

    cli.out.lines(sample().splitlines())


@verb(app, "show", "isthmus policy show")
def show(cli: Session) -> None:
    """Show the rules in force, after the operator's file. A file that cannot be used is an error here as for the
    service."""
    from isthmus.service.policy import Policy  # noqa: PLC0415 - see above

    rows = [[name, check] for name, check in Policy(cli.config.policy).rules().items()]
    cli.out.table(["rule", "check"], rows)
