"""Taking down whatever a run left on the host, as ``isthmus doctor --fix --delete-data`` would without a service."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from isthmus.agent.assemble import assemble, only_agent
from isthmus.agent.surgery import mend
from isthmus.host import mounts
from isthmus.model.config import Config
from isthmus.model.desired import Desired
from isthmus.model.names import PoolName
from isthmus.model.share import Pool


async def sweep(config: Config, pools: Mapping[str, Path]) -> list[str]:
    """Nothing is left below the configuration's prefix, and no share in the pools (paths by name). The service and the
    agent have ended. Returns what could not be removed, and why."""
    layout = config.layout
    if not layout.run.exists():
        return []
    known = tuple(
        Pool(PoolName(name), "local", config.host, str(path)) for name, path in pools.items() if path.is_dir()
    )
    equipment = assemble(config)
    with only_agent(layout):
        try:
            diagnosis, tried = await mend(
                equipment, layout, config.host, Desired(config.host, 0, known), delete_data=True
            )
        finally:
            await equipment.hypervisor.close()
    left = [f"{finding.kind} {finding.name}: {finding.problem}" for finding in diagnosis.findings]
    left += [error for _, error in tried if error]
    if any(Path(entry.target).is_relative_to(layout.run) for entry in mounts.mounts()):
        return [*left, f"something is still mounted below {layout.run}"]
    shutil.rmtree(layout.run)
    return left
