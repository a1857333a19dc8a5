"""`experiment-engine worker`, whose claims end after the time given as the argument."""

import os
import sys
from dataclasses import replace

from experiment_engine.adapters.system.logs import configure_logs
from experiment_engine.bootstrap import open_engine
from experiment_engine.domain.moments import parse_duration
from experiment_engine.engine.engine import Engine
from experiment_engine.entrypoints.cli.serving import deliver
from experiment_engine.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(os.environ)
    engine = open_engine(settings, configure_logs(settings.log_format))
    ground = replace(engine.ground, lease=parse_duration(sys.argv[1]))
    deliver(Engine(engine.rules, ground), settings)
