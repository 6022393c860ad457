"""The report: right figures, whole HTML, nothing from elsewhere, harmless names, and no wider than its window."""

import ast
import html
import json
import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import make_image
from finished import CASES, HOSTILE, phase, run_folder
from pages import Page
from PIL import Image

from kerasft import report
from kerasft.console import wording
from kerasft.evaluation import intervals, scoring
from kerasft.evaluation import metrics as evaluation_metrics
from kerasft.evaluation.score_names import SCORES
from kerasft.report import sections, usage


def thumbnails(indices: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([np.array(make_image(("disc", "square")[i % 2], rng, 64, 64)) for i in indices])


def written(folder: Path, *arguments, **more) -> tuple[Page, dict]:
    metrics = run_folder(folder, *arguments, **more)
    report.write_report(folder, metrics, thumbnails)
    return Page((folder / "report.html").read_text()), metrics


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_whole_html_and_takes_nothing_from_elsewhere(tmp_path, case):
    page, metrics = written(tmp_path, *CASES[case], findings=27)
    assert (page.open, page.loose) == ([], [])
    assert page.source.lstrip().startswith("<!DOCTYPE html>")
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"@import|url\(", page.source)
    anchors = {"#" + attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for address in page.addresses:
        assert address.startswith("data:image/jpeg;base64,") or address in anchors
    assert not [attributes for _, attributes in page.tags if any(key.startswith("on") for key in attributes)]
    for kind in ("svg", "img"):
        said = [attributes.get("aria-label") or attributes.get("alt") for tag, attributes in page.tags if tag == kind]
        assert said and all(said)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    for name in metrics["classes"]:
        assert name in page.text["bdi"]


@pytest.mark.parametrize(
    ("case", "gain"),
    [
        ("two", "+10.0% (+2.0% to +18.0%)"),
        ("labels", "+0.100 (+0.0200 to +0.180)"),
        ("targets", "+0.100 (+0.0200 to +0.180)"),
    ],
)
def test_the_page_says_what_would_do_as_well_and_what_an_answer_costs(tmp_path, case, gain):
    page, _ = written(tmp_path, *CASES[case])
    for part in ("What would do as well", "linear probe", "nearest neighbours", gain):
        assert part in page.source
    for part in ("Multiplications an image</dt><dd>5,678,900", "32 images a call</dt><dd>410", "2.5 MB"):
        assert part in page.source


def test_the_time_of_a_linear_probe_is_explained_only_where_there_is_one(tmp_path):
    page, metrics = written(tmp_path, *CASES["two"])
    assert "The linear probe’s time includes the features" in page.source
    del metrics["baselines"]["linear_probe"]
    report.write_report(tmp_path, metrics, thumbnails)
    text = (tmp_path / "report.html").read_text()
    assert "Times are those of fitting and answering." in text and "linear probe" not in text


def test_a_run_without_baselines_has_no_section_of_them(tmp_path):
    page, _ = written(tmp_path, *CASES["two"], epochs=0)
    assert "What would do as well" not in page.source


def test_the_page_forbids_scripts_even_if_one_got_in(tmp_path):
    page, _ = written(tmp_path, *CASES["hostile"])
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.mark.parametrize("case", ["two", "sixty", "labels", "angle", "targets"])
def test_the_headline_is_the_test_figure_with_its_interval(tmp_path, case):
    task, classes = CASES[case]
    page, metrics = written(tmp_path, task, classes)
    test, arrays = metrics["test"], dict(np.load(tmp_path / "predictions.npz"))
    text, n = page.text["header"], metrics["test"]["n"]
    if task == "single_label":
        right = int((arrays["probabilities"].argmax(-1) == arrays["labels"]).sum())
        low, high = intervals.wilson(right, n)
        assert f"{right} of {n} test images" in text
        assert f"{right / n:.1%}" in text and f"between {low:.1%} and {high:.1%}" in text
    else:
        key = "scaled_mae" if case == "targets" else SCORES[task]
        assert wording.number(test[key]) in text
        low, high = map(float, re.search(r"between ([\d.]+) and ([\d.]+) \(95%", text).groups())
        assert low < test[key] < high
    assert "the model is clearly better" in text


def test_several_targets_are_each_said(tmp_path):
    """17,302 on a target of thousands and 0.0005 on one of thousandths: their mean says nothing."""
    names, scales = ["price", "share"], np.array([40_000, 0.001])
    metrics = run_folder(tmp_path, "regression", names)
    rng = np.random.default_rng(0)
    labels = rng.normal(0, 1, (90, 2)) * scales
    values = labels + rng.choice([-1, 1], (90, 2)) * [17_302, 0.0005]
    scorer = scoring.Scorer("regression", labels, labels.std(0))
    metrics["test"] = evaluation_metrics.compute(scorer, values, tuple(names))
    arrays = {"labels": labels.astype(np.float32), "values": values.astype(np.float32)}
    np.savez(tmp_path / "predictions.npz", ids=np.array([f"{i}.jpg" for i in range(90)]), **arrays)
    report.write_report(tmp_path, metrics, thumbnails)
    page = Page((tmp_path / "report.html").read_text())
    assert "“price” 17,302, “share” 0.0005, each in its own units" in page.text["header"]
    deviations = (np.array([17_302, 0.0005]) / labels.std(0)).mean()
    assert metrics["test"]["scaled_mae"] == pytest.approx(deviations, rel=1e-3)
    assert f"Test mean absolute error in deviations\n{wording.number(deviations)}" in page.text["header"]
    assert "8,651" not in page.source and "8651" not in page.source


@pytest.mark.parametrize("case", ["two", "labels", "angle", "targets"])
def test_a_figure_that_cannot_be_measured_is_a_dash(tmp_path, case):
    """A label that the test split lacks, no label at all, a constant target: the report is written all the same."""
    task, classes = CASES[case]
    metrics = run_folder(tmp_path, task, classes)
    with np.load(tmp_path / "predictions.npz") as stored:
        arrays = dict(stored)
    for empty in ([0], list(range(len(classes)))):
        if task == "single_label":
            arrays["labels"] = np.ones_like(arrays["labels"])
        else:
            arrays["labels"][:, empty] = 0
        scorer = scoring.Scorer(task, arrays["labels"], np.ones(len(classes)))
        outputs = arrays["values"] if task == "regression" else np.log(arrays["probabilities"])
        metrics["test"] = evaluation_metrics.compute(scorer, outputs, tuple(classes), arrays.get("thresholds"))
        np.savez(tmp_path / "predictions.npz", **arrays)
        report.write_report(tmp_path, metrics, thumbnails)
        page = Page((tmp_path / "report.html").read_text())
        assert (page.open, page.loose) == ([], [])
        assert "None" not in page.text["main"].replace("=None", "") and "nan" not in page.source.lower()
        if case != "two":
            assert "<td>–</td>" in page.source
    if task == "regression":
        assert "All test images have the same true value of “" in page.text["header"]


@pytest.mark.parametrize("case", ["two", "labels", "angle"])
def test_the_headline_claims_no_more_than_the_audit_knows(tmp_path, case):
    task, classes = CASES[case]
    metrics = run_folder(tmp_path, task, classes)
    audit = json.loads((tmp_path / "audit.json").read_text())
    ids = np.load(tmp_path / "predictions.npz")["ids"]

    def header(**more) -> str:
        (tmp_path / "audit.json").write_text(json.dumps(audit | more))
        report.write_report(tmp_path, metrics, thumbnails)
        return Page((tmp_path / "report.html").read_text()).text["header"]

    assert "none of which the model had seen" in header()
    found = [("train/x.jpg", str(ids[4])), (str(ids[7]), "train/y.jpg"), ("train/a.jpg", "val/b.jpg")]
    rows = [
        {"path": a, "kind": "duplicate_across_splits", "verdict": "warn", "detail": f"same bytes as {b}"}
        for a, b in found
    ]
    text = header(findings=rows)
    assert "none of which" not in text
    assert "for 2 of which an image of the same group, or nearly the same image, is in another split" in text
    assert "the score may be too optimistic" in text
    metrics["test"]["excluded_copies"] = 3
    text = header()
    assert "3 test images are copies of training or validation images, and not counted." in text
    if task != "regression":
        counts = audit["counts"] | {"test": audit["counts"]["test"] | {classes[1]: 0}}
        assert f"no image of “{classes[1]}”, so the score says nothing about them" in header(counts=counts)


def test_the_phases_say_what_became_of_them(tmp_path):
    page, _ = written(tmp_path, *CASES["two"])
    rows = page.text["table"]
    marks = [attributes["class"] for tag, attributes in page.tags if attributes.get("class", "").startswith("mark")]
    assert [mark for mark in marks if "health" not in mark] == ["mark yes", "mark no", "mark yes"]
    assert "solved" in rows and "epochs=0" not in rows and "The solved head is where training begins" in page.source
    assert "undone" in rows and "kept to 50%" in rows and "3.00 → 1.00" in rows and "70.0% → 85.0%" in rows


def test_phases_that_few_validation_images_cannot_judge_are_not_said_to_be_judged(tmp_path):
    metrics = run_folder(tmp_path, *CASES["two"])
    metrics["val"]["n"], metrics["phases"] = 1, [metrics["phases"][0] | {"epochs": 4}]
    report.write_report(tmp_path, metrics, thumbnails)
    page = Page((tmp_path / "report.html").read_text())
    assert "1 validation image cannot judge a phase: the first one is kept as it is" in page.source
    assert "kept, not judged" in page.text["table"] and "A phase is kept only if" not in page.source


def test_an_undone_phase_says_what_it_reached(tmp_path):
    metrics = run_folder(tmp_path, *CASES["two"])
    metrics["phases"][1]["refused"] = {"share": 0.5, "loss": 0.9991, "score": 0.7, "needed": 0.99}
    report.write_report(tmp_path, metrics, thumbnails)
    assert "reached 0.999, needed: 0.990" in Page((tmp_path / "report.html").read_text()).text["table"]


def test_a_phase_without_epochs_is_not_called_undone():
    found = [phase("02-head", "accuracy", epochs=epochs, share=0.0, values=(0.7, 0.7)) for epochs in (0, 1)]
    assert [row["verdict"] for row in sections.phases(found, "accuracy")] == ["no epochs", "undone"]


@pytest.mark.parametrize("features", [True, False])
def test_a_taught_run_names_its_teachers_and_how_good_they_are(tmp_path, features):
    metrics = run_folder(tmp_path, "single_label", HOSTILE)
    members = [{"path": path, "sha256": "0"} for path in ("runs/<b>large", "runs/b")][: 1 + features]
    taught = {"members": members, "val_accuracy": 0.9125, "val_loss": 0.25, "temperature": 2.0, "weight": 0.5}
    metrics["settled"]["teacher"] = taught | ({"features_weight": 2.0, "unlabelled": 1200} if features else {})
    report.write_report(tmp_path, metrics, thumbnails)
    text = Page((tmp_path / "report.html").read_text()).text["p"]
    who = "the mean of 2 teachers, “runs/<b>large” and “runs/b”" if features else "a teacher, runs/<b>large"
    assert f"{who}, whose accuracy on the same validation images is 91.2% (loss 0.250); " in text
    further = " Of 1,200 further images without labels it learned the answers alone."
    end = f", its features a weight of 2.00.{further}" if features else "."
    assert f"its answers have 50% of the loss{end}" in text


def test_a_run_without_epochs_says_so(tmp_path):
    page, _ = written(tmp_path, *CASES["two"], epochs=0)
    assert "There are no curves: no phase had an epoch. The head was solved directly" in page.text["main"]
    assert "The curves as a table" not in page.text["main"]
    # `--head_init=zeros --phases='head(epochs=0)'` solves nothing.
    metrics = run_folder(tmp_path, *CASES["two"], epochs=0)
    metrics["phases"][0] |= {"accepted": False, "share": 0.0}
    report.write_report(tmp_path, metrics, thumbnails)
    text = Page((tmp_path / "report.html").read_text()).text["main"]
    assert "no phase had an epoch" in text and "was solved" not in text


def test_a_run_without_mistakes_or_findings_says_so(tmp_path):
    metrics = run_folder(tmp_path, *CASES["two"])
    n = metrics["test"]["n"]
    labels = np.arange(n, dtype=np.int32) % 2
    metrics["test"] |= {"accuracy": 1.0, "ece": 0.0, "confusion_matrix": [[n // 2, 0], [0, n // 2]]}
    ids = np.array([f"{i}.jpg" for i in range(n)])
    np.savez(tmp_path / "predictions.npz", ids=ids, labels=labels, probabilities=np.eye(2, dtype=np.float32)[labels])
    report.write_report(tmp_path, metrics, lambda indices: pytest.fail("no image is needed"))
    text = Page((tmp_path / "report.html").read_text()).text["main"]
    assert "every answer on the test images was right" in text
    assert "Nothing amiss" in text


def test_a_training_that_broke_off_leaves_a_gap_in_the_curves(tmp_path):
    metrics = run_folder(tmp_path, *CASES["two"])
    log = tmp_path / "history.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows[-1] |= {"loss": float("nan"), "val_loss": float("inf")}
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report.write_report(tmp_path, metrics, thumbnails)
    page = Page((tmp_path / "report.html").read_text())
    assert not [a for tag, a in page.tags if tag in ("polyline", "circle") and re.search("nan|inf", str(a))]


def test_epochs_that_were_not_validated_have_no_value_and_no_gap(tmp_path):
    metrics = run_folder(tmp_path, *CASES["two"])
    log = tmp_path / "history.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    report.write_report(tmp_path, metrics, thumbnails)
    lines = len(re.findall("<polyline", (tmp_path / "report.html").read_text()))
    for row in rows[1:-1:2]:
        for name in [name for name in row if name.startswith("val_")]:
            del row[name]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report.write_report(tmp_path, metrics, thumbnails)
    text = (tmp_path / "report.html").read_text()
    assert len(re.findall("<polyline", text)) == lines and "<td></td><td></td>" in text


def test_a_file_name_that_is_no_unicode_is_shown_with_question_marks(tmp_path):
    metrics = run_folder(tmp_path, *CASES["two"])
    rows = [{"path": "b\udcfc.jpg", "kind": "corrupt", "verdict": "reject", "detail": ""}]
    (tmp_path / "audit.json").write_text(json.dumps({"files": 4, "counts": {"train": {}}, "findings": rows}))
    report.write_report(tmp_path, metrics, thumbnails)
    assert "b?.jpg" in (tmp_path / "report.html").read_text()


def test_images_are_asked_for_once_the_surest_mistake_first(tmp_path):
    metrics = run_folder(tmp_path, *CASES["ten"])
    asked = []
    report.write_report(tmp_path, metrics, lambda indices: asked.append(indices) or thumbnails(indices))
    (indices,) = asked
    arrays = np.load(tmp_path / "predictions.npz")
    probabilities, labels = arrays["probabilities"], arrays["labels"]
    wrong = np.flatnonzero(probabilities.argmax(-1) != labels)
    assert len(indices) == min(12, len(wrong)) and set(indices) <= set(wrong)
    sure = probabilities[indices].max(-1)
    assert sure[0] == probabilities[wrong].max() and (np.diff(sure) <= 0).all()


def test_the_python_lines_can_be_read_by_python():
    path = 'saved_models/it\'s "odd"/3'
    commands = usage.serving(path, "single_label")
    calls = [node for node in ast.walk(ast.parse(commands["Python"])) if isinstance(node, ast.Constant)]
    assert path in [node.value for node in calls]
    assert "it%27s%20%22odd%22:predict" in commands["and a request to either"]


def test_the_report_has_the_command_that_explains(tmp_path):
    page, _ = written(tmp_path / "a run's folder", *CASES["two"])
    assert (
        shlex.split(usage.repeating(tmp_path / "a run's folder"))[3]
        == f"--flagfile={tmp_path}/a run's folder/run.flags"
    )
    quoted = usage.explaining(tmp_path / "a run's folder")
    assert html.escape(quoted, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page.source


@pytest.fixture
def chromium():
    """Runs a headless browser with these flags and returns what it prints."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if found is None:
        pytest.skip("needs chromium, chromium-browser, google-chrome or chrome on the PATH")

    def run(page: Path, *flags: str) -> str:
        always = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}"]
        line = [found, *always, *flags, page.as_uri()]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=True).stdout

    return run


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("case", ["hostile", "sixty", "hostile_labels", "targets"])
def test_the_page_is_no_wider_than_its_window(tmp_path, chromium, case, width):
    page, _ = written(tmp_path, *CASES[case], findings=5)
    # Measured from a frame around it: the page itself forbids scripts, and a headless window is never that narrow.
    frame = f"""<iframe srcdoc="{html.escape(page.source)}" style="width: {width}px; border: 0" onload="
        const page = this.contentDocument.documentElement;
        page.querySelectorAll('details').forEach(part => part.open = true);
        document.title = page.scrollWidth + ' of ' + page.clientWidth"></iframe>"""
    (tmp_path / "frame.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><title></title>{frame}")
    shown = chromium(tmp_path / "frame.html", "--window-size=1400,900", "--dump-dom")
    needed, window = map(int, re.search(r"<title>(\d+) of (\d+)</title>", shown).groups())
    assert needed == window and width - 20 <= window <= width  # a scroll bar may take some of it


def test_a_browser_draws_the_page_and_is_stopped_from_running_anything(tmp_path, chromium):
    page, _ = written(tmp_path, *CASES["hostile"])
    sneaked = page.source.replace("</body>", "<script>document.title = 'ran'</script></body>")
    (tmp_path / "sneaked.html").write_text(sneaked)
    assert "<title>ran</title>" not in chromium(tmp_path / "sneaked.html", "--dump-dom")
    chromium(tmp_path / "report.html", "--window-size=390,1600", f"--screenshot={tmp_path / 'shot.png'}")
    shot = np.array(Image.open(tmp_path / "shot.png").convert("RGB"))
    assert len(np.unique(shot.reshape(-1, 3), axis=0)) > 100
    assert shot[-1, 0].min() > 240  # a light page where nothing else is asked for


def test_the_health_of_gradients_is_told_with_its_remedy_and_figures(tmp_path):
    page, _ = written(tmp_path, *CASES["two"])
    said = " ".join(page.text["p"].split())
    assert "02-top: nothing vanishes, explodes or is dead." in said
    assert "large updates 03-all: a step changed 13% (conv_2). Lower lr." in said
    for figure in ("0.250 → 0.250", "2.0e−03", "1.50 → 1.50", "75% → 75%"):
        assert figure in page.text["td"]
    assert "built-in" not in page.source
    # A run of an earlier version has none.
    page, _ = written(tmp_path / "head", *CASES["two"], epochs=0)
    assert "Gradient health" not in page.source


@pytest.mark.parametrize("key", ["scaled_mae", "mae"])
def test_artefacts_of_several_targets_show_their_error_in_deviations(tmp_path, key):
    """Earlier versions wrote it under the other name."""
    metrics = run_folder(tmp_path, *CASES["targets"])
    row = {"artefact": "onnx", "path": "exports/x/1/onnx", "published": True, "reason": "", "loss": 0.5, "bytes": 9000}
    metrics["artefacts"] = {"onnx": row | {key: 0.4321}}
    report.write_report(tmp_path, metrics, thumbnails)
    table = (tmp_path / "report.html").read_text().partition("Artefacts in other formats")[2].partition("</table>")[0]
    assert "mean absolute error in deviations" in table and "0.432" in table


def test_the_pinball_loss_of_a_quantile_is_in_one_unit(tmp_path):
    """The headline and the baselines are in that of the target, the loss in deviations; an earlier version recorded the loss alone."""
    metrics = run_folder(tmp_path, *CASES["angle"], quantile=0.9)
    test, rows = metrics["test"], metrics["baselines"]
    found = sections.baselines(rows | {"early": {"mae": 0.2, "loss": 0.2}}, test, None)
    assert found[0] == ("this network", [wording.number(test["pinball"]), "", "", ""])
    assert [name for name, _ in found[1:]] == ["linear probe", "nearest neighbours"]
    assert found[1][1][:2] == ["0.750", "+0.100 (+0.0200 to +0.180)"]
    report.write_report(tmp_path, metrics, thumbnails)
    assert (
        '<th scope="col">Mean pinball loss</th><th scope="col">This network has more</th>'
        in (tmp_path / "report.html").read_text()
    )


def test_outside_of_robustness_a_quantile_is_nowhere_judged_by_its_absolute_error(tmp_path):
    page, metrics = written(tmp_path, *CASES["angle"], quantile=0.9)
    text = page.source.partition('<section aria-labelledby="robustness">')[0].lower()
    assert "mean absolute error" not in text and "root mean squared" not in text
    assert "mean pinball loss" in text and wording.number(metrics["test"]["pinball"]) in page.text["table"]
    assert "A linear probe predicts the mean, so there is none." in page.source
    for table in re.findall("<table.*?</table>", page.source, re.DOTALL):
        heads, *rows = re.findall("<tr.*?</tr>", table, re.DOTALL)
        assert {len(re.findall("<t[hd][ >]", row)) for row in rows} == {len(re.findall("<t[hd][ >]", heads))}


def test_no_artefact_is_said_to_need_no_tensorflow(tmp_path):
    """`keras(precision=int8)` needs it; `requirements.txt` says what each needs."""
    metrics = run_folder(tmp_path, *CASES["two"])
    row = {"path": "exports/x/1/keras-int8", "published": True, "reason": "", "loss": 0.5, "bytes": 9000}
    metrics["artefacts"] = {"keras(precision=int8)": row | {"artefact": "keras(precision=int8)", "accuracy": 0.9}}
    report.write_report(tmp_path, metrics, thumbnails)
    text = (tmp_path / "report.html").read_text()
    assert "In other formats" in text and "requirements.txt" in text and "Without TensorFlow" not in text
