"""The n-gram baseline is a run like the others, for every script; --texts, and the curve that is drawn of it."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, SAMPLE_CORPUS
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import evaluate
import finetune
import post_eval
from utils import corpus_load, curve, ngrams, results, runs
from utils.runs import RunError

REGISTERS = list(corpus_load.load_registers(SAMPLE_CORPUS))


@pytest.fixture
def learn(root):
    """Return a function that trains on the sample corpus in this process, and gives the run's folders back."""

    def learn(*options, model_name="ngrams", lang="en", subfolder=""):
        names = [f"--model-name={model_name}", f"--train-langs={lang}", f"--subfolder={subfolder}"]
        assert finetune.main([*names, f"--corpus-path={SAMPLE_CORPUS}", *options]) == 0
        return runs.run_paths(model_name, [lang], subfolder)

    return learn


def judge(model_name="ngrams", lang="en", subfolder="", evaluated=("en", "fr")):
    names = [f"--model-name={model_name}", f"--train-langs={lang}", f"--subfolder={subfolder}"]
    return evaluate.main([*names, f"--corpus-path={SAMPLE_CORPUS}", "--eval-lang", *evaluated])


def record_of(run):
    return json.loads((run.outputs / "run.json").read_text())


def split(langs, **options):
    options = {"validation_size": 0.2, "seed": 42, "all_texts": False} | options
    return corpus_load.load_training_texts(SAMPLE_CORPUS, langs, REGISTERS, **options)


def test_it_answers_as_scikit_learn_does(monkeypatch, tmp_path):
    monkeypatch.setattr(ngrams, "N_NGRAMS", 10**9)  # scikit-learn would choose others
    monkeypatch.setattr(ngrams, "STRENGTHS", (10.0,))
    train, validation, _ = split(["en"])
    model, _ = ngrams.fit(train, validation, REGISTERS, balanced=True)
    ngrams.save(model, tmp_path)

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True)
    classifier = LogisticRegression(C=10, tol=1e-3, class_weight="balanced")
    classifier.fit(vectorizer.fit_transform(train["text"]), train["register"])
    expected = classifier.predict_proba(vectorizer.transform(validation["text"]))
    answers = ngrams.predict(ngrams.load(tmp_path), validation["text"], list(classifier.classes_))
    np.testing.assert_allclose(answers, expected, atol=1e-3)


def test_with_two_registers_and_one_that_no_training_text_has():
    train, validation, _ = split(["en"])
    train = train[train["register"].isin(["IN", "LY"])]
    model, tried = ngrams.fit(train, validation, REGISTERS, balanced=True)
    answers = ngrams.predict(model, validation["text"], REGISTERS)
    assert np.allclose(answers.sum(axis=1), 1)
    assert set(np.flatnonzero(answers.sum(axis=0))) == {REGISTERS.index("IN"), REGISTERS.index("LY")}
    of_in = answers[(validation["register"] == "IN").to_numpy(), 0]
    assert of_in.mean() > 0.5 and all(np.isfinite(one["validation"]["loss"]) for one in tried)


def test_the_same_weights_on_any_number_of_cores(project):
    hashes = set()
    for n_cores in (1, min(2, len(os.sched_getaffinity(0)))):
        command = [sys.executable, "finetune.py", "--model-name=ngrams", "--train-langs=en", "--overwrite"]
        cores = sorted(os.sched_getaffinity(0))[:n_cores]
        command += [f"--corpus-path={SAMPLE_CORPUS}"]
        subprocess.run(command, cwd=project, check=True, preexec_fn=lambda cores=cores: os.sched_setaffinity(0, cores))
        hashes.add(json.loads((project / "outputs/ngrams-en/run.json").read_text())["weights_sha256"])
    assert len(hashes) == 1


def test_the_submit_scripts_train_evaluate_and_report_it(project):
    grid = ["bash", "submit_train_jobs.sh", "--models", "ngrams", "--langs", "en", "--local", "--then-evaluate"]
    command = [*grid, "--eval-lang", "fr", "ru", "--", "--num-epochs", "5"]

    def run(*words):
        variables = os.environ | {"REGISTER_CORPUS": str(SAMPLE_CORPUS)}
        done = subprocess.run(words, cwd=project, env=variables, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    run(*command)
    assert run(*command).count("done already") == 2
    table = run(*grid, "--eval-lang", "fr", "ru", "sv", "--status").splitlines()[1]
    assert "trained" in table and "2 of 3" in table


def test_options_of_encoders_do_not_count_and_the_others_do(learn, caplog):
    run = learn()
    before = runs.sha256_of(run.models / "model.safetensors")
    learn("--num-epochs=5", "--max-length=7")  # nothing to do
    with pytest.raises(RunError, match="seed was 42, is now 2"):
        learn("--seed=2")
    caplog.set_level("INFO")
    learn("--num-epochs=5", "--learning-rate=0.1", "--overwrite")
    assert [m for m in caplog.messages if "--learning-rate --num-epochs" in m]
    assert runs.sha256_of(run.models / "model.safetensors") == before


def test_a_second_evaluation_has_nothing_to_do(learn, capsys):
    run = learn()
    assert judge() == 0
    first = runs.sha256_of(run.scores("fr")), capsys.readouterr().out
    assert judge() == 0
    assert (runs.sha256_of(run.scores("fr")), capsys.readouterr().out) == (first[0], "")
    assert "|max_length:0|precision:fp64|" in first[1]


def test_it_is_drawn_and_compared_beside_an_encoder(learn, tiny, root, capsys):
    learn()
    judge()
    learn(f"--checkpoint={tiny}", "--num-epochs=1", "--max-length=64", "--precision=fp32", model_name="tiny")
    judge("tiny")
    outputs = f"--base-dir={root / 'outputs'}"
    assert post_eval.main([outputs, "--jobs=1"]) == 0
    methods = (root / "outputs" / "methods.md").read_text(encoding="utf-8")
    assert "Our baseline, ngrams, is a logistic regression" in methods and "beginning: 64." in methods
    assert "<dt>C<dd>" in (root / "outputs" / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert post_eval.main([outputs, "--compare", "ngrams-en", "tiny-en"]) == 0
    assert "ngrams-en against tiny-en" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["coef", "idf", "ngrams.json"])
def test_a_damaged_model_is_told(tmp_path, name):
    from safetensors.numpy import load_file, save_file

    train, validation, _ = split(["en"])
    ngrams.save(ngrams.fit(train, validation, REGISTERS, balanced=False)[0], tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    if name == "ngrams.json":
        names = json.loads((tmp_path / name).read_text())
        runs.write_json(tmp_path / name, names | {"ngrams": names["ngrams"][1:]})
    elif name == "coef":
        arrays[name][0, 0] = np.nan
    else:
        arrays[name] = arrays[name][1:]
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(RunError, match="model.safetensors"):
        ngrams.load(tmp_path)


def test_ended_while_it_writes_it_is_trained_again(learn, root, monkeypatch):
    run = learn()
    weights = runs.sha256_of(run.models / "model.safetensors")
    shutil.rmtree(run.outputs), shutil.rmtree(run.models)
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import finetune
from utils import runs
runs.ROOT = Path({str(root)!r})
finetune.conclude = lambda *_: os.kill(os.getpid(), signal.SIGTERM)  # the model is in its place, its record is not
finetune.main(["--model-name=ngrams", "--train-langs=en", "--corpus-path={SAMPLE_CORPUS}"])
"""
    ended = subprocess.run([sys.executable, "-c", code])
    assert ended.returncode == -signal.SIGTERM and not (run.outputs / "run.json").exists()
    learn()
    assert runs.sha256_of(run.models / "model.safetensors") == weights and not run.checkpoints.exists()


# ---- --texts ----


@pytest.mark.parametrize("langs", [["en"], ["en", "fr"]])
def test_fewer_texts_are_among_more_and_validation_is_a_share_of_them(langs):
    everything = split(langs)
    size = sum(len(part) for part in everything[:2]) // len(langs)
    before = [set(), set()]
    for n in (10, 11, 50, size - 1, size):
        train, validation, report = split(langs, n_texts=n)
        rows = [set(zip(part["lang"], part["row"], strict=True)) for part in (train, validation)]
        assert before[0] <= rows[0] and before[1] <= rows[1]
        for lang in langs:
            assert report["texts"][lang]["taken"] == n
            assert abs(sum(one == lang for one, _ in rows[1]) - 0.2 * n) <= 2
        before = rows
    assert before == [set(zip(part["lang"], part["row"], strict=True)) for part in everything[:2]]


@pytest.mark.parametrize(("n_texts", "named"), [(101, "en.tsv: 100 texts"), (3, "validation texts: ")])
def test_too_many_texts_and_too_few_are_refused_and_nothing_is_written(learn, root, n_texts, named):
    with pytest.raises(RunError, match=named):
        learn(f"--texts={n_texts}", subfolder="few")
    assert not list(root.rglob("*.json")) and not (root / "outputs" / "few").exists()


def test_the_curve_has_the_scores_of_runs_that_differ_in_texts_alone(learn, root):
    for subfolder, options in {"few": ["--texts=40"], "": [], "other": ["--texts=60", "--balanced"]}.items():
        learn(*options, subfolder=subfolder)
        judge(subfolder=subfolder)
    assert post_eval.main([f"--base-dir={root / 'outputs'}", "--jobs=1", "--tve-metrics=micro_f1"]) == 0
    assert (root / "outputs" / "curve.png").is_file()

    frame, _ = results.read_results([root / "outputs"])
    drawn = curve.points(frame, ["micro_f1"])
    assert sorted(zip(drawn["langs"], drawn["texts"], strict=True)) == [
        ("en", 40),
        ("en", 100),
        ("fr", 40),
        ("fr", 100),
    ]
    of_few = frame[(frame["subfolder"] == "few") & (frame["metric"] == "micro_f1")].set_index("eval_lang")["score"]
    assert drawn[drawn["texts"] == 40].set_index("langs")["mean"].to_dict() == of_few.to_dict()
