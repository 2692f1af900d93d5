"""A few ends of each kind, as tests/programs/crash.py does by hundreds."""

import random
from collections import Counter

import crash
import pytest
from conftest import copy_project

pytestmark = pytest.mark.slow
ROUNDS = {
    "finetune": 3, "evaluate": 2, "post_eval": 9, "download_model": 2, ".venv": 3, "submit_train_jobs.sh": 2,
}  # fmt: skip  # run_train.sh becomes finetune.py, and submit_train_jobs.sh calls it


@pytest.mark.parametrize(("name", "rounds"), ROUNDS.items())
def test_ended_at_random_moments_and_run_again_it_gives_what_it_gives_undisturbed(name, rounds, tmp_path, tiny):
    counts = Counter()
    crash.crash(name, copy_project(tmp_path / "project", tiny), rounds, random.Random(0), counts)
    assert sum(counts[key] for key in counts if key[2] == "tries") >= rounds
    assert {key: n for key, n in counts.items() if key[2] in crash.FAULTS and n} == {}
