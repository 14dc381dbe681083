"""The nine notebooks as an Airflow DAG, one task each, by Airflow's own papermill operator.

Needs ``apache-airflow-providers-papermill`` and ``micromarket`` in the Python that runs the tasks, and a kernel named
``python3`` there (``python -m ipykernel install --sys-prefix``). Put this file into the DAG folder and set the three
Airflow variables, or the environment variables of the same names.

The first task settles the day of the data and the run before, so that all notebooks mean the same day. To publish, with
manifest, ``latest.json``, history and retention, run ``micromarket run`` as one task instead (``WHOLE`` below): that is
the better choice unless single notebooks are to be tried again one by one.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.papermill.operators.papermill import PapermillOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
try:
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:
    from airflow.operators.bash import BashOperator

PLAN = os.environ.get("MICROMARKET_PLAN", "/srv/plan/plan.yml")
OUT = os.environ.get("MICROMARKET_OUT", "/srv/plan/reports")
NOTEBOOKS = Path(os.environ.get("MICROMARKET_NOTEBOOKS", "/srv/plan/notebooks"))
WHOLE = False
# words in plan.yml such as "last full month" are meant on this day; one folder a DAG run, where
# a task that is tried again finds what those before it left
DAY = "{{ data_interval_end | ds }}"
RUN_DIR = f"{OUT}/airflow/{DAY}"

with DAG(
    dag_id="micromarket",
    description="One opportunity plan that sales and marketing both sign",
    schedule="10 5 3 * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=15)},
) as dag:
    env = {"PLAN": PLAN, "OUT": OUT, "RUN_DIR": RUN_DIR, "MICROMARKET_TODAY": DAY}
    if WHOLE:
        BashOperator(
            task_id="plan",
            bash_command='micromarket run "$PLAN" --out "$OUT" --resume --log "$OUT/../reports.jsonl"',
            env=env,
            append_env=True,
        )
    else:
        before = BashOperator(
            task_id="settle",
            bash_command='micromarket check "$PLAN" && micromarket pin "$PLAN" "$RUN_DIR" --out "$OUT"',
            env=env,
            append_env=True,
        )
        for notebook in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
            task = PapermillOperator(
                task_id=notebook.stem[3:],
                input_nb=str(notebook),
                output_nb=f"{RUN_DIR}/notebooks/{notebook.name}",
                parameters={"plan": PLAN, "run_dir": RUN_DIR},
                kernel_name="python3",
            )
            before >> task
            before = task
