"""What every gateway keeps, real or fake: a suite to inherit from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from isthmus.gateway.base import Gateway
from isthmus.model.attachment import Access, Export
from isthmus.model.errors import Conflict, Unavailable
from isthmus.model.names import AttachmentId, GuestId, new_id

MakeExport = Callable[..., Export]


class GatewayContract:
    """Inheritors give the fixtures ``gateway``, ``guest`` (its link is there) and ``make_source`` (a new share's
    directory)."""

    @pytest.fixture
    def make_export(self, make_source: Callable[[], str]) -> MakeExport:
        slots = iter(range(1, 100))

        def make(at: str, access: Access = Access.RW, source: str | None = None) -> Export:
            return Export(AttachmentId(new_id()), next(slots), source or make_source(), at, access)

        return make

    async def served(self, gateway: Gateway, guest: GuestId) -> set[Export]:
        return set((await gateway.observe())[guest].exports.values())

    async def test_starts_with_nothing_to_present(self, gateway: Gateway, guest: GuestId) -> None:
        await gateway.start(guest, [])
        seen = (await gateway.observe())[guest]
        assert seen.running
        assert not seen.exports

    async def test_starts_with_exports(self, gateway: Gateway, guest: GuestId, make_export: MakeExport) -> None:
        exports = {make_export("/home"), make_export("/data/models", Access.RO)}
        await gateway.start(guest, exports)
        assert await self.served(gateway, guest) == exports

    async def test_a_second_start_changes_nothing(
        self, gateway: Gateway, guest: GuestId, make_export: MakeExport
    ) -> None:
        exports = {make_export("/home")}
        await gateway.start(guest, exports)
        await gateway.start(guest, exports)
        assert await self.served(gateway, guest) == exports

    async def test_presents_exactly_the_set(self, gateway: Gateway, guest: GuestId, make_export: MakeExport) -> None:
        one, two, three = make_export("/one"), make_export("/two words, Ünïcode"), make_export("/deep/er/three")
        await gateway.start(guest, [one])
        for exports in ({one, two}, {two, three}, {two, three}, set(), {one, two, three}):
            assert await gateway.present(guest, exports) == {}
            assert await self.served(gateway, guest) == exports

    async def test_replaces_what_changed(
        self, gateway: Gateway, guest: GuestId, make_export: MakeExport, make_source: Callable[[], str]
    ) -> None:
        first = make_export("/first")
        await gateway.start(guest, [first])
        for changed in (
            replace(first, access=Access.RO),
            replace(first, at="/moved"),
            replace(first, source=make_source()),
            replace(first, slot=90),
        ):
            assert await gateway.present(guest, [changed]) == {}
            assert await self.served(gateway, guest) == {changed}

    async def test_the_root_of_the_name_space_may_be_a_share(
        self, gateway: Gateway, guest: GuestId, make_export: MakeExport
    ) -> None:
        root, other = make_export("/"), make_export("/other")
        await gateway.start(guest, [other])
        for export in (root, other, root):
            assert await gateway.present(guest, [export]) == {}
            assert await self.served(gateway, guest) == {export}

    async def test_an_export_that_fails_hinders_no_other(
        self, gateway: Gateway, guest: GuestId, make_export: MakeExport
    ) -> None:
        good, late = make_export("/good"), make_export("/late")
        bad = make_export("/bad", source="/nonexistent/share")
        await gateway.start(guest, [good, bad])
        assert await self.served(gateway, guest) == {good}
        assert (await gateway.present(guest, [good, bad, late])).keys() == {bad.attachment}
        assert await self.served(gateway, guest) == {good, late}

    async def test_of_two_exports_in_one_place_the_lower_slot_wins(
        self, gateway: Gateway, guest: GuestId, make_export: MakeExport
    ) -> None:
        low, high = make_export("/place"), make_export("/place/within")
        await gateway.start(guest, [])
        errors = await gateway.present(guest, [high, low])
        assert {attachment: type(error) for attachment, error in errors.items()} == {high.attachment: Conflict}
        assert await self.served(gateway, guest) == {low}

    async def test_cannot_present_without_a_gateway(self, gateway: Gateway, guest: GuestId) -> None:
        with pytest.raises(Unavailable, match="does not run"):
            await gateway.present(guest, [])

    async def test_stop_leaves_nothing(self, gateway: Gateway, guest: GuestId, make_export: MakeExport) -> None:
        await gateway.start(guest, [make_export("/home")])
        await gateway.stop(guest)
        assert guest not in await gateway.observe()
        await gateway.stop(guest)
