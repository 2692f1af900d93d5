"""Some forty ends of each kind, as tests/crash.py does by hundreds."""

import random
from collections import Counter

import crash
import pytest
from conftest import copy_project

ROUNDS = {"finetune": 6, "evaluate": 4, "post_eval": 18, "download_model": 3, ".venv": 5}


@pytest.mark.parametrize("name", crash.PROGRAMS)
def test_ended_at_random_moments_and_run_again_it_gives_what_it_gives_undisturbed(name, tmp_path, tiny):
    counts = Counter()
    crash.crash(name, copy_project(tmp_path / "project", tiny), ROUNDS.get(name, 2), random.Random(0), counts)
    assert sum(counts[key] for key in counts if key[2] == "tries") >= ROUNDS.get(name, 2)
    assert {key: n for key, n in counts.items() if key[2] in crash.FAULTS and n} == {}
