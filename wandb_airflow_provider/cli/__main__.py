"""``python -m wandb_airflow_provider.cli``, the same as the command ``wandb-airflow``."""

from __future__ import annotations

import sys

from wandb_airflow_provider.cli import main

sys.exit(main())
