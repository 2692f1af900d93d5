"""Memory that runs out: one line says which options need less, and finished epochs are kept."""

import re
import resource
import subprocess
import sys
import time

import pytest
import torch
from conftest import REGISTERS, epochs, finish, record, run_of, start
from test_finetune import assert_same_training, copy_without_dropout

from utils import runs
from utils.encoder import memory
from utils.runs import RunError

LIMITED = """
import importlib, resource, sys
megabytes, script, *sys.argv[1:] = sys.argv[1:]
main = importlib.import_module(script).main
from utils import runs  # with their libraries, which the limit leaves alone
from utils.encoder import classifier  # with their libraries, which the limit leaves alone
from utils.training import trainer  # with their libraries, which the limit leaves alone
classifier.evaluation_batch_size = trainer.evaluation_batch_size = lambda length: 16384 // length  # as on a GPU
size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (size * 1024 + int(megabytes) * 2**20, -1))
sys.argv[0] = f"{script}.py"
runs.run_script(main)
"""


@pytest.fixture
def corpus(write_corpus):
    """Texts of more than 256 tokens: a batch of 64 of them takes the tiny model some 900 MB."""
    rows = [(register, f"{'a b c d e f g h ' * 40} {register} {i}") for i in range(28) for register in REGISTERS]
    return write_corpus({"train/en": [(r, f"{text} train") for r, text in rows], "test/en": rows * 6})


def limited(project, megabytes, script, *options, corpus, expect):
    """Run a script with so much more memory than its libraries take; return what it printed."""
    return finish(start(project, "-c", LIMITED, str(megabytes), script, *options, corpus=corpus), expect)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the limit is the machine's memory")
def test_the_advice_is_right_and_finished_epochs_are_kept(project, corpus, tiny, tmp_path):
    no_dropout = copy_without_dropout(tiny, tmp_path)
    names = ["--model-name=t", "--train-langs=en", "--precision=fp32"]
    common = [*names, f"--checkpoint={no_dropout}", "--num-epochs=2", "--max-length=256", "--learning-rate=1e-3"]
    whole, small = (run_of(project, subfolder, "t-en") for subfolder in "ws")
    finish(start(project, "finetune.py", *common, "--batch-size=64", "--subfolder=w", corpus=corpus))

    training = [*common, "--subfolder=s"]
    process = start(project, "finetune.py", *training, "--batch-size=64", corpus=corpus)
    while not list(small.checkpoints.glob("checkpoint-*/hashes.json")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    first_epoch = sorted(small.checkpoints.glob("checkpoint-*/hashes.json"))[0].parent

    options, tries = ["--batch-size=64"], 0
    while True:
        done = subprocess_of(project, 500, "finetune", *training, *options, corpus=corpus)
        if done.returncode == 0:
            break
        tries += 1
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert last.startswith("finetune.py: out of memory: ") and "256 tokens at once" in last
        assert first_epoch.is_dir(), "a finished epoch was lost"
        options = re.findall(r"--[a-z-]+ \d+", last)[:2]
        options = [word for option in options for word in option.split()]
        assert tries < 7
    assert tries > 0 and "going on from checkpoint-" in done.stderr
    assert record(small)["settings"]["batch_size"] * record(small)["settings"]["gradient_accumulation"] == 64
    assert len(epochs(small)) == 2
    assert_same_training(whole, small)

    evaluation = [*names, "--subfolder=w", "--eval-lang=en"]
    out = limited(project, 300, "evaluate", *evaluation, "--batch-size=504", corpus=corpus, expect=1)
    assert "en not evaluated: out of memory: 504 texts of up to 256 tokens at once were too much; " in out
    assert "--batch-size 252 takes about half" in out and "Traceback" not in out
    limited(project, 300, "evaluate", *evaluation, "--batch-size=8", corpus=corpus, expect=0)


def subprocess_of(project, megabytes, script, *options, corpus):
    process = start(project, "-c", LIMITED, str(megabytes), script, *options, corpus=corpus)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_another_effective_batch_is_still_refused(train):
    train("--num-epochs=1", "--batch-size=16")
    train("--num-epochs=1", "--batch-size=4", "--gradient-accumulation=4")  # nothing to do
    for options in (["--batch-size=8"], ["--batch-size=8", "--gradient-accumulation=4"]):
        with pytest.raises(RunError, match="batch_size was 16, is now 8"):
            train("--num-epochs=1", *options)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "advice"),
    [
        (16, 1, "--batch-size 8 --gradient-accumulation 2 takes about half"),
        (6, 4, "--batch-size 3 --gradient-accumulation 8 takes about half"),
        (15, 1, "--batch-size 5 --gradient-accumulation 3 takes about 1/3"),
        (7, 2, "--batch-size 1 --gradient-accumulation 14 takes about 1/7"),
        (1, 16, "--max-length 256 takes about half, but is another training"),
    ],
)
def test_the_advice_keeps_the_effective_batch(batch_size, accumulation, advice):
    args = memory.argparse.Namespace(batch_size=batch_size, gradient_accumulation=accumulation, max_length=512)
    what, remedy = memory.training(args)
    assert f"{batch_size} text" in what and "512 tokens" in what and advice in remedy


def test_the_advice_goes_below_the_texts_that_are_computed_at_once():
    """Of 16 texts of 512 tokens, a CPU takes 4 at a time: a batch of 8 would need as much."""
    args = memory.argparse.Namespace(batch_size=16, gradient_accumulation=1, max_length=512)
    what, remedy = memory.training(args, at_once=4)
    assert what.startswith("4 texts of up to 512 tokens at once")
    assert "--batch-size 2 --gradient-accumulation 8 takes about half" in remedy
    assert "--max-length 256 takes about half" in memory.training(args, at_once=1)[1]


def limit_and_allocate(code):
    lines = f"import resource, numpy, torch; resource.setrlimit(resource.RLIMIT_AS, (2**36, 2**36)); {code}"
    program = (
        "from utils.encoder import memory\n"
        f"try:\n    exec({lines!r})\nexcept Exception as error:\n    print(memory.is_shortage(error))"
    )
    return subprocess.run([sys.executable, "-c", program], cwd=runs.ROOT, capture_output=True, text=True).stdout.strip()


def test_what_libraries_say_of_a_shortage_is_understood():
    assert memory.is_shortage(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"))
    assert not memory.is_shortage(RuntimeError("size mismatch")) and not memory.is_shortage(KeyError("x"))
    assert resource.RLIMIT_AS
    for code in ("numpy.ones(2**40)", "torch.ones(2**40)", "bytearray(2**40)"):
        assert limit_and_allocate(code) == "True", code


def test_what_is_no_shortage_is_not_explained_as_one():
    with pytest.raises(KeyError), memory.explained("x", "y"):
        raise KeyError("a fault of the program")
    with pytest.raises(RunError, match="^no model$"), memory.explained("x", "y"):
        raise RunError("no model")
