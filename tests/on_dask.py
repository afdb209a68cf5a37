"""A sweep on a local Dask cluster of two worker processes, one of which is killed half-way. Prints what happened as JSON."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import sweep_parts as parts

import eqdyn as eq


def main():
    from distributed import Client, LocalCluster

    folder, kill = Path(sys.argv[1]), sys.argv[2] == "kill"
    here = eq.sweep(eq.rules.consensus(), parts.start, **parts.ASKED)
    os.environ["SLOW"] = "0.3"  # the workers take their time
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(folder.parent)) as cluster,
        Client(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())
        done = folder / "cells"

        def killer():
            while len(list(done.glob("[0-9]*"))) < 1:
                time.sleep(0.02)
            os.kill(pids[0], signal.SIGKILL)

        if kill:
            threading.Thread(target=killer, daemon=True).start()
        there = eq.sweep(
            eq.rules.consensus(), parts.slow_start, executor=client.get_executor(), folder=folder, lease=5.0, progress=None, **parts.ASKED
        )
        after = list(client.run(os.getpid).values())
    same = all(np.array_equal(here[name], there[name], equal_nan=here[name].dtype.kind == "f") for name in here.data_vars)
    cells = len(list(done.glob("[0-9]*")))
    print(json.dumps({"same": same, "killed": pids[0] not in after, "cells": cells, "claims": len(list((folder / "claims").iterdir()))}))


if __name__ == "__main__":
    main()
