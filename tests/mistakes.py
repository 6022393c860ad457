"""What goes wrong at the command, one row a mistake: by the user, by a hostile file, or by the machine."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from conftest import write

PLACES = ("photos", "table", "tiny", "flat", "model", "nested", "sequential", "tokens", "two_inputs")


class Row(NamedTuple):
    """A mistake.

    Attributes:
        name: of the test.
        flags: with `{photos}` and the like for what `test_mistakes` has made.
        words: that standard error must hold, whatever their case: the flag, the file, a choice.
        make: called with the folder that the command runs in, and with what the braces stand for.
        status: as documented in the README; several where each is right.
        received: whether the message must end in `Received: ...`.
        absent: words that standard error must not hold.
        options: of `forks.run`.
        large: takes long.
    """

    name: str
    flags: tuple[str, ...]
    words: tuple[str, ...]
    make: Callable[[Path, dict[str, str]], object] | None = None
    status: tuple[int, ...] = (2,)
    received: bool = True
    absent: tuple[str, ...] = ()
    options: dict = {}
    large: bool = False


SMALL = ("--backbone={tiny}", "--image_size=32", "--phases=head(epochs=0)", "--precision=float32", "--augment=none")
SMALL += ("--notensorboard", "--batch_size=8")
MADE = ("--data=generated:2x8", *SMALL)
PREDICT = ("--mode=predict", "--model={model}", "--images={photos}")
SERVE = ("--mode=serve", "--model={model}", "--port=0")
TUNE = ("--mode=tune", "--data=generated:2x8", "--backbone={tiny}", "--image_size=32", "--phases=head(epochs=1)")
COMPARE = ("--mode=compare", "--data=generated:2x8", "--backbone={tiny}", "--image_size=32")
SEARCH = "--search=lr=log(1e-4, 1e-2)"


def a(name: str, *flags: str, says: tuple[str, ...] | str | None = None, **more: object) -> Row:
    """A row; what the message must say is by default the name of the last flag."""
    words = (flags[-1].partition("=")[0],) if says is None else (says,) if isinstance(says, str) else says
    return Row(name, flags, words, **more)


def files(**contents: str | bytes) -> Callable[[Path, dict[str, str]], None]:
    """Makes files; `__` in a name is a dot."""

    def make(cwd: Path, _: dict[str, str]) -> None:
        for name, content in contents.items():
            path = cwd / name.replace("__", ".")
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def folder(*images: str, **broken: bytes) -> Callable[[Path, dict[str, str]], None]:
    """Images under `set/`, each unlike the others; `NAME*N` is N of them. Keywords put files that are none into it."""

    def make(cwd: Path, _: dict[str, str]) -> None:
        (cwd / "set").mkdir()
        seed = 0
        for text in images:
            name, _, count = text.partition("*")
            for index in range(int(count or 1)):
                seed += 1
                write(cwd / "set" / os.fsdecode(name.encode("latin-1")) / f"{index}.png", seed=seed)
        for name, content in broken.items():
            (cwd / "set" / name.replace("__", ".").replace("_in_", "/")).write_bytes(content)

    return make


def run_folder(begun: bool = True, **contents: str) -> Callable[[Path, dict[str, str]], None]:
    """A run folder `r` as the flags MADE would have left it, with files of these contents (`__` is a dot)."""

    def make(cwd: Path, places: dict[str, str]) -> None:
        from kerasft.settings import stored_config
        from kerasft.settings.config import Config

        config = Config(
            data="generated:2x8",
            backbone=places["tiny"],
            image_size=32,
            phases="head(epochs=0)",
            precision="float32",
            augment="none",
            tensorboard=False,
            batch_size=8,
            run_dir="r",
        )
        (cwd / "r").mkdir()
        if begun:
            (cwd / "r" / "config.json").write_text(json.dumps(asdict(config)))
            (cwd / "r" / "run.flags").write_text(stored_config.to_flags(config))
        for name, content in contents.items():
            (cwd / "r" / name.replace("__", ".")).write_text(content)

    return make


def broken_model(change: Callable[[Path], object]) -> Callable[[Path, dict[str, str]], None]:
    """A copy `broken` of the exported model, whose version 1 is changed."""

    def make(cwd: Path, places: dict[str, str]) -> None:
        import shutil

        shutil.copytree(places["model"], cwd / "broken")
        change(cwd / "broken" / "1")

    return make


def _variables(version: Path, contents: Callable[[bytes], bytes]) -> None:
    path = next(version.glob("variables/*.data*"))
    path.write_bytes(contents(path.read_bytes()))


def command_line() -> Iterator[Row]:
    yield a("unknown_flag", "--bakbone=x", says=("--bakbone", "did you mean 'backbone'"))
    for flag in ("verbosity=1", "v=1", "pdb", "only_check_args", "run_with_profiling", "alsologtostderr"):
        name = flag.partition("=")[0]
        yield a(f"absl_{name}", "--mode=audit", f"--{flag}", says=f"--{name}: no such flag")
    yield a("log_dir", "--log_dir=logs", says=("--log_dir", "--run_dir"))
    yield a("learning_rate", "--lr=1e-3", says=("--lr", "--phases"))
    yield a("epochs", "--epochs=5", says=("--epochs", "--phases"))
    yield a("word", "words", says="'words'")
    yield a("words_after_dashes", "--", "words", says="'words'")
    yield a("unknown_mode", "--mode=trian", says=("--mode", "did you mean 'train'"))
    yield a("no_mode", "--mode=")
    yield a("not_a_number", "--batch_size=ten")
    yield a("empty_number", "--batch_size=")
    yield a("fraction_for_whole", "--batch_size=1.5")
    yield a("batch_of_none", "--batch_size=0", says=("--batch_size", "65536"))
    yield a("small_size", "--image_size=8", says=("--image_size", "16"))
    yield a("huge_size", "--image_size=99999")
    yield a("val_of_2", "--val_fraction=2")
    yield a("val_of_nan", "--val_fraction=nan")
    yield a("test_below_0", "--test_fraction=-0.1")
    yield a(
        "nothing_to_train", *MADE, "--val_fraction=0.6", "--test_fraction=0.6", says=("val_fraction", "test_fraction")
    )
    yield a("seed_below_0", "--seed=-1")
    yield a("seed_too_large", "--seed=99999999999")
    yield a("perhaps_deterministic", "--deterministic=perhaps", says=("--deterministic", "true or false"))
    yield a("perhaps_resume", "--resume=perhaps")
    yield a("perhaps_tensorboard", "--tensorboard=2")
    yield a("perhaps_warmup", "--warmup=warm")
    yield a("perhaps_keep_cache", "--keep_cache=all")
    yield a("features_none", "--features=0", says=("--features", "at least 1"))
    yield a("features_word", "--features=some", says=("--features", "auto"))
    yield a("framing_stretch", "--framing=stretch", says=("--framing", "squash"))
    yield a("half_precision", "--precision=half", says=("--precision", "mixed_float16"))
    yield a("jit_of_maybe", "--jit=maybe")
    yield a("task_misspelt", "--task=multilabel", says=("--task", "did you mean 'multi_label'"))
    yield a("sampling_misspelt", "--sampling=ballanced", says=("--sampling", "'balanced'"))
    yield a("class_weights_of_yes", "--class_weights=yes")
    yield a("bad_images_of_ignore", "--bad_images=ignore")
    yield a("cache_below_0", "--cache_gb=-1")
    yield a("cache_without_end", "--cache_gb=inf")
    yield a("limit_of_0", "--per_class_limit=0")
    yield a("groups_of_no_table", *MADE, "--group_column=patient", says=("--group_column", "csv"))
    yield a("no_pattern", *MADE, "--group_pattern=(", says=("--group_pattern", "regular expression"))
    yield a("pattern_without_a_group", *MADE, "--group_pattern=x", says=("--group_pattern", "brackets"))
    yield a("pattern_of_nothing", *MADE, "--group_pattern=(zebra)", says=("--group_pattern", "none of"))
    yield a("no_list_to_exclude", *MADE, "--exclude=nowhere.csv", says=("--exclude", "nowhere.csv"))
    yield a(
        "list_of_others", *MADE, "--exclude=l.txt", says=("--exclude", "none of which"), make=files(l__txt="x.jpg\n")
    )
    yield a(
        "list_without_paths", *MADE, "--exclude=l.csv", says=("--exclude", "path"), make=files(l__csv="file\nx.jpg\n")
    )
    yield a("list_is_a_folder", *MADE, "--exclude=.", says="--exclude")
    yield a("patience_below_0", *MADE, "--patience=-1")
    yield a("budget_of_nothing", *MADE, "--budget_minutes=0")
    yield a("budget_and_equal_weights", *MADE, "--deterministic", "--budget_minutes=5")
    yield a("escape_in_value", "--mode=\x1b[2J\x1b]0;title\x07", says="--mode")
    yield a("newline_in_value", "--mode=a\nb\rc", says="--mode")
    yield a("right_to_left_in_value", "--precision=\u202emixed", says="--precision")
    yield a("value_not_utf8", "--mode=\udcff\udcfe", says="--mode")
    yield a("very_long_value", "--mode=" + "a" * 3000, says="--mode")


def flagfiles() -> Iterator[Row]:
    yield a("no_flagfile", "--flagfile=nowhere.flags", says=("--flagfile", "nowhere.flags"), received=False)
    yield a("flagfile_is_folder", "--flagfile=.", says="--flagfile", received=False)
    yield a("flagfile_not_utf8", "--flagfile=f", says="--flagfile", make=files(f=b"--mode=\xff\xfe\n"), received=False)
    yield a("flagfile_binary", "--flagfile=f", says=(), make=files(f=bytes(range(256))), received=False)
    yield a("flagfile_in_itself", "--flagfile=f", says="--batch_size", make=files(f="--flagfile=f\n--batch_size=ten\n"))
    yield a("unknown_in_flagfile", "--flagfile=f", says=("--bakbone", "backbone"), make=files(f="--bakbone=x\n"))
    yield a(
        "no_flagfile_in_flagfile",
        "--flagfile=f",
        says="nowhere.flags",
        make=files(f="--flagfile=nowhere.flags\n"),
        received=False,
    )
    yield a("flagfile_without_dashes", "--flagfile=f", says=(), make=files(f="data=folder:photos\n"), received=False)
    stranger = "--augment=os.system('touch PWNED')\n"
    allowed = files(f__flags="--allow_imports=os\n" + stranger)
    yield a(
        "imports_by_flagfile", *MADE[1:], "--flagfile=f.flags", says="--allow_imports", make=allowed, received=False
    )
    named = files(allow_imports_s1__flags="--allow_imports=os\n" + stranger)
    by_name = ("--flagfile", "allow_imports_s1.flags", *MADE)
    yield a("imports_by_name_of_flagfile", *by_name, says=(), make=named, received=False)
    added = ("--allow_imports=keras", "--flagfile=f.flags", *MADE)
    yield a("imports_added_by_flagfile", *added, says=(), make=allowed, received=False)
    nested = files(f__flags="--flagfile=g\n", g="--allow_imports=os\n--head_init=os.system('touch PWNED')\n")
    yield a("imports_by_nested_flagfile", *added, says=(), make=nested, received=False)
    after = ("--flagfile=f.flags", "--allow_imports=keras", *MADE[:-3], "--noresume")
    yield a("imports_before_own", *after, says=(), make=allowed, received=False)
    head = files(allow_imports="--allow_imports=os\n--head_init=os.system('touch PWNED')\n")
    yield a("imports_by_bare_name", "--flagfile=allow_imports", *MADE, says=(), make=head, received=False)
    split = files(f="--allow_imports\nos\n" + stranger)
    yield a("imports_in_two_lines", "--flagfile=f", *MADE[1:], says=(), make=split, received=False)


def outside_code() -> Iterator[Row]:
    yield a("augment_from_outside", "--augment=os.system('touch PWNED')", says=("--augment", "--allow_imports=os"))
    allowed = "--allow_imports=os,subprocess,builtins"
    yield a("a_function_for_an_augmentation", *MADE, allowed, "--augment=os.system('touch PWNED')")
    yield a("a_function_for_a_start", *MADE, allowed, "--head_init=os.system('touch PWNED')")
    yield a("a_process_for_an_optimizer", *MADE, allowed, "--optimizer=subprocess.Popen('touch PWNED', shell=True)")
    yield a("a_function_for_a_loss", *MADE, allowed, "--loss=os.getcwd()")
    yield a("a_function_for_a_schedule", *MADE, allowed, "--schedule=os.system('touch PWNED')")
    yield a("a_function_for_a_head", *MADE, allowed, "--head=os.system('touch PWNED')")
    yield a("a_function_for_averages", *MADE, allowed, "--average=os.system('touch PWNED')")
    yield a("a_function_for_phases", *MADE, allowed, "--phases=os.system('touch PWNED')")
    yield a("a_function_for_a_backbone", *MADE, allowed, "--backbone=os.system('touch PWNED')")
    yield a(
        "a_function_in_a_phase",
        *MADE,
        allowed,
        "--phases=all(epochs=1, optimizer=os.system('touch PWNED'))",
        says="os.system",
    )
    yield a("no_such_import", *MADE, "--allow_imports=nowhere_at_all", "--augment=nowhere_at_all.Best()")
    yield a("dunder", "--augment=__import__('os')")
    yield a("a_function_in_tfds", "--data=tfds:os.system", says="--data")


def specs() -> Iterator[Row]:
    yield a("open_bracket", "--augment=flip|rotate[", says=("--augment", "^"))
    yield a("augmentation_misspelt", *MADE, "--augment=flip | rotat(15)", says=("--augment", "'rotate'"))
    yield a("unknown_argument", *MADE, "--augment=rotate(degree=5)", says=("--augment", "degree"))
    yield a("text_for_a_number", *MADE, "--augment=rotate('x')")
    yield a("nested_too_deeply", "--augment=" + "(" * 500 + ")" * 500, says="--augment")
    yield a("head_misspelt", *MADE, "--head=linar", says=("--head", "'linear'"))
    yield a("no_units", *MADE, "--head=mlp(units=0)", says=("--head", "units"))
    yield a("hidden_misspelt", *MADE, "--head=mlp(hidden_init=he_norma)", says=("--head", "did you mean"))
    yield a("dropout_of_2", *MADE, "--head=linear(dropout=2)")
    yield a("surgery_misspelt", *MADE, "--surgery=prun(0.3)", says=("--surgery", "'prune'"))
    yield a("surgery_for_others", *MADE, "--surgery=precision('float32')", says=("--surgery", "fold_batchnorm"))
    yield a("activation_misspelt", *MADE, "--surgery=activation(relu=swich)", says=("--surgery", "'swish'"))
    yield a("no_such_activation", *MADE, "--surgery=activation(gelu=swish)", says=("--surgery", "which have relu"))
    yield a("no_activation", *MADE, "--surgery=activation", says=("--surgery", "relu=swish"))
    yield a("blend_half", *MADE, "--surgery=activation(relu=swish, blend=0.5)", says=("--surgery", "whole number"))
    blended = "--surgery=activation(relu=swish, blend=9)"
    yield a("blend_head", *MADE, blended, "--phases=head", says=("--surgery", "no phase trains it"))
    yield a("truncate_2", *MADE, "--surgery=truncate(2)", says=("--surgery", "keep", "(0, 1)"))
    yield a("truncate_nothing", *MADE, "--surgery=truncate(0.99)", says=("--surgery", "drops none"))
    yield a("prune_all", *MADE, "--surgery=prune(1)", says=("--surgery", "fraction"))
    yield a("no_residuals", *MADE, "--surgery=stochastic_depth(0.1)", says=("--surgery", "no residual sums"))
    yield a("dropout_text", *MADE, "--surgery=dropout('x')", says=("--surgery", "rate"))
    yield a("folded_twice", *MADE, "--surgery=fold_batchnorm | fold_batchnorm", says=("--surgery", "finds no Batch"))
    yield a("two_heads", "--head=linear | mlp(8)")
    yield a("start_misspelt", *MADE, "--head_init=probee", says=("--head_init", "'probe'"))
    yield a("epochs_below_0", *MADE, "--phases=head(epochs=-1)", says=("--phases", "epochs"))
    yield a("phase_misspelt", *MADE, "--phases=al(epochs=1)", says=("--phases", "'all'"))
    yield a("auto_twice", *MADE, "--phases=auto | all | auto")
    yield a("eight_bits_of_what", *MADE, "--phases=auto | quantised(bits=8)", says=("--phases", "quantised"))
    yield a("no_phases", *MADE, "--phases=none")
    yield a("no_such_layer", *MADE, "--phases=top(unfreeze='nothing', epochs=1)")
    yield a("unfreeze_7", *MADE, "--phases=top(unfreeze=7, epochs=1)")
    yield a("rate_below_0", *MADE, "--phases=all(epochs=1, lr=-1)")
    yield a("rate_of_nan", *MADE, "--phases=all(epochs=1, lr=nan)")
    yield a("rate_of_1e999", *MADE, "--phases=all(epochs=1, lr=1e999)")
    yield a("one_stage", *MADE, "--phases=gradual(stages=1)", says=("--phases", "stages"))
    yield a("stage_5_of_4", *MADE, "--phases=gradual(stage=5)", says=("--phases", "stage"))
    yield a("rank_0", *MADE, "--phases=lora(rank=0)", says=("--phases", "rank"))
    yield a("two_adapters", *MADE, "--phases=adapter(2) | adapter(4)", says=("--phases", "reduction"))
    yield a("reduction_0", *MADE, "--phases=adapter(reduction=0)", says=("--phases", "reduction"))
    yield a("no_such_block", *MADE, "--phases=surgical(layers='nothing')", says=("--phases", "kerasft layers"))
    yield a("decay_of_2", *MADE, "--phases=all(epochs=1, layer_decay=2)", says=("--phases", "layer_decay"))
    yield a("head_lr_0", *MADE, "--phases=all(epochs=1, head_lr=0)", says=("--phases", "head_lr"))
    yield a("pull_below_0", *MADE, "--phases=all(epochs=1, l2sp=-1)", says=("--phases", "l2sp"))
    yield a("radius_misspelt", *MADE, "--phases=bias(epochs=1, samm=0.1)", says=("--phases", "'sam'"))
    yield a("small_images_in_phase", *MADE, "--phases=all(epochs=1, image_size=4)")
    yield a("optimizer_misspelt", *MADE, "--optimizer=adma", says=("--optimizer", "did you mean 'adam'"))
    yield a("momentum_misspelt", *MADE, "--optimizer=sgd(momentun=0.9)", says=("--optimizer", "'momentum'"))
    yield a("two_optimizers", "--optimizer=sgd | adam")
    yield a("loss_misspelt", *MADE, "--loss=crosentropy", says=("--loss", "'cross_entropy'"))
    yield a("loss_of_another_task", *MADE, "--loss=mse")
    yield a("quantile_of_classes", *MADE, "--loss=pinball(0.9)", says=("--loss", "cross_entropy"))
    yield a("beta_of_1", *MADE, "--loss=class_balanced(beta=1)")
    yield a("smoothing_of_2", *MADE, "--loss=cross_entropy(label_smoothing=2)")
    yield a("schedule_misspelt", *MADE, "--schedule=cosinus", says=("--schedule", "'cosine'"))
    yield a("warmup_of_2", *MADE, "--schedule=cosine(warmup=2)")
    yield a("power_of_0", *MADE, "--schedule=polynomial(power=0)")
    yield a("scaling_misspelt", "--lr_scaling=linear")
    yield a("average_misspelt", *MADE, "--average=emma", says=("--average", "'ema'"))
    yield a("export_misspelt", *MADE, "--export=onx", says=("--export", "'onnx'"))
    yield a("export_in_no_such_precision", *MADE, "--export=litert(precision=int4)", says=("--export", "int8"))
    yield a("drop_of_2", "--max_drop=2")
    yield a("timings_of_words", "--mode=compress", "--timings=perhaps")
    yield a("compress_nothing", "--mode=compress", says=("--export", "litert"))
    yield a("target_of_2", "--mode=compress", "--model=run", "--target=flops=2", says=("--target", "(0, 1)"))
    yield a("prune_per_nothing", *MADE, "--surgery=prune(0.3, per='bytes')", says=("--surgery", "flops"))
    yield a("rate_for_nothing", "--mode=lr_find", *MADE, says=("--phases", "epochs"))
    yield a("two_moving_averages", *MADE, "--average=ema | swa")
    yield a("momentum_of_2", *MADE, "--average=ema(momentum=2)")
    yield a("soup_of_a_number", *MADE, "--average=soup(runs=3)", says=("--average", "run folders"))
    yield a("soup_of_no_runs", *MADE, "--average=soup(runs='no/run')", says=("--average", "finished runs"))
    yield a(
        "preprocessing_misspelt",
        "--data=generated:2x8",
        "--preprocessing=densnet",
        says=("--preprocessing", "densenet"),
    )


def data() -> Iterator[Row]:
    yield a("no_such_source", "--data=nowhere")
    yield a("no_such_folder", "--data=folder:nowhere", says=("--data", "nowhere"))
    yield a("folder_unnamed", "--data=folder:")
    yield a("folder_is_a_table", "--data=folder:{table}")
    yield a("folder_name_too_long", "--data=folder:" + "n" * 300, says="--data")
    yield a("table_is_a_folder", "--data=csv:{photos}", says=("--data", "folder"), absent=("did you mean",))
    yield a("no_such_table", "--data=csv:nowhere.csv")
    yield a("bare_folder", "--data={photos}", "--task=regression", says=("--task", "single_label"))
    yield a("bare_table", "--data={table}", "--task=regression", says=("--data",), absent=("must be one of",))
    yield a(
        "table_not_utf8", "--data=csv:t.csv", says=("--data", "UTF-8"), make=files(t__csv=b"path,label\n\xff\xfe,a\n")
    )
    yield a("table_empty", "--data=csv:t.csv", make=files(t__csv=""))
    yield a("table_of_zeros", "--data=csv:t.csv", make=files(t__csv=bytes(100)))
    yield a("table_of_a_head", "--data=csv:t.csv", make=files(t__csv="path,label\n"))
    yield a("table_without_paths", "--data=csv:t.csv", says=("--data", "path"), make=files(t__csv="file,label\na,b\n"))
    yield a("column_twice", "--data=csv:t.csv", make=files(t__csv="path,label,label\na,b,c\n"))
    yield a("home_of_nobody", "--data=~nosuchuser/photos", says=("--data", "home"))
    yield a("name_too_long", f"--data=folder:{'x' * 300}", says=("--data", "too long"))
    yield a("files_missing", "--data=csv:t.csv", says=("--data", "x.jpg"), make=files(t__csv="path,label\nx.jpg,b\n"))
    stray = 'path,label\n"a.jpg,b\n' + "".join(f"{i}.jpg,b\n" for i in range(5000))
    yield a("stray_quote", "--data=csv:t.csv", make=files(t__csv=stray))
    long = "path,label\n" + "a" * 200_000 + ",b\n"
    yield a("very_long_cell", "--data=csv:t.csv", make=files(t__csv=long))
    yield a("escapes_in_table", "--data=csv:t.csv", make=files(t__csv="path,label\n\x1b[2J.jpg,b\x07\nc.jpg,d\n"))
    yield a(
        "two_labels_for_one",
        "--data={table}",
        "--task=single_label",
        *SMALL,
        make=None,
        says="--task",
        status=(0, 2),
        received=False,
        large=True,
    )
    words = "path,label\n{photo},much\n"
    yield a("words_for_numbers", "--data=csv:t.csv", "--task=regression", says="--data", make=_table(words))
    yield a(
        "constant_target",
        *SMALL,
        "--data=csv:t.csv",
        "--task=regression",
        says="--data",
        make=_table("path,x\n{photo},3\n{other},3\n"),
        received=False,
    )
    grouped = ("--data=csv:t.csv", "--group_column=patent")
    patients = files(t__csv="path,label,patient\na.jpg,b,c\n")
    yield a("no_column_of_groups", *grouped, says=("--group_column", "did you mean 'patient'"), make=patients)
    yield a("table_is_a_pipe", "--data=csv:t.csv", make=lambda cwd, _: os.mkfifo(cwd / "t.csv"))
    yield a("table_without_end", "--data=csv:t.csv", make=lambda cwd, _: (cwd / "t.csv").symlink_to("/dev/zero"))
    yield a("one_class", "--data=folder:set", says=("--data", "only"), make=folder("only*3"))
    yield a("no_class", "--data=folder:set", make=folder())
    yield a("only_val", "--data=folder:set", says=("--data", "train"), make=folder("val/a*3", "val/b*3"))
    yield a("train_twice", "--data=folder:set", says=("train", "training"), make=folder("train/a", "training/a"))
    yield a(
        "no_image_that_decodes",
        *SMALL,
        "--data=folder:set",
        says="--data",
        make=folder("a", "b", a_in_0__png=b"x", b_in_0__png=b""),
        received=False,
    )
    yield a("one_image", *SMALL, "--data=folder:set", says="--data", make=folder("a", "b"))
    yield a(
        "bad_images",
        *SMALL,
        "--data=folder:set",
        "--bad_images=fail",
        says=("--bad_images", "audit.json"),
        make=folder("a*5", "b*5", a_in_bad__png=b"x"),
    )
    yield a("bad_images_with_escapes", *SMALL, "--data=folder:set", "--bad_images=fail", make=_escapes)
    yield a(
        "class_not_utf8",
        *SMALL,
        "--data=folder:set",
        says=(),
        make=folder("a*6", "caf\xe9*6"),
        status=(0, 2),
        received=False,
        large=True,
    )
    yield a(
        "class_with_escape",
        *SMALL,
        "--data=folder:set",
        says=(),
        make=folder("a*6", "b\x1b[2J\n*6"),
        status=(0, 2),
        received=False,
        large=True,
    )
    yield a("folder_of_processes", *SMALL, "--data=folder:/proc/self/net", says=(), received=False)
    yield a("digits_of_five", "--data=digits:5")
    yield a("generated_of_none", "--data=generated:0x5")
    yield a("generated_of_one_number", "--data=generated:5")
    yield a("generated_without_end", "--data=generated:99999999x99999999")
    yield a("no_such_set", "--data=tfds:no_such_set_at_all", large=True)
    yield a("set_of_no_folder", "--data=tfds:/nowhere/at/all")
    yield a("splits_of_a_folder", "--data=folder:{photos}", "--splits=train=train")
    yield a(
        "limit_of_numbers", "--data=csv:t.csv", "--per_class_limit=5", make=_table("path,x\n{photo},3.5\n{other},1\n")
    )
    yield a(
        "weights_of_numbers",
        "--data=csv:t.csv",
        "--class_weights=balanced",
        make=_table("path,x\n{photo},3.5\n{other},1\n"),
    )
    yield a(
        "sampling_of_numbers",
        "--data=csv:t.csv",
        "--sampling=balanced",
        make=_table("path,x\n{photo},3.5\n{other},1\n"),
    )
    mixed = ("--data=csv:t.csv", *SMALL[:-3], "--augment=mixup(0.2)")
    yield a(
        "mixed_numbers",
        *mixed,
        make=_table("path,x\n{photo},3.5\n{other},1\n{third},2\n{fourth},5\n{fifth},4.5\n{sixth},7\n"),
        received=False,
    )
    yield a(
        "dots_for_a_name", *SMALL, "--data=csv:...csv", says=(), make=_dots, status=(0, 2), received=False, large=True
    )


def _table(text: str) -> Callable[[Path, dict[str, str]], None]:
    """A table `t.csv` in which {photo}, {other} ... are images."""

    def make(cwd: Path, places: dict[str, str]) -> None:
        paths = sorted(Path(places["photos"]).rglob("*.jpg"))
        names = dict(zip(("photo", "other", "third", "fourth", "fifth", "sixth"), paths))
        (cwd / "t.csv").write_text(text.format(**names))

    return make


def _escapes(cwd: Path, places: dict[str, str]) -> None:
    folder("a*5", "b*5")(cwd, places)
    (cwd / "set" / "a" / "\x1b[2J\nleft out: nothing\x07.png").write_bytes(b"no image")


def _dots(cwd: Path, places: dict[str, str]) -> None:
    """A table whose name without its ending is `..`."""
    rows = [f"{path},{path.parent.name}" for path in sorted(Path(places["photos"]).rglob("*.jpg"))[::3]]
    (cwd / "...csv").write_text("\n".join(["path,label", *rows]))


def places() -> Iterator[Row]:
    """Where a run writes, and what it finds there."""
    yield a("run_in_a_file", *MADE, "--run_dir=r", make=files(r="x"))
    yield a("run_in_a_full_folder", *MADE, "--run_dir=r", make=run_folder(begun=False, letter__txt="x"))
    yield a("run_among_processes", *MADE, "--run_dir=/proc/kerasft")
    yield a("run_below_a_file", *MADE, "--run_dir=r/s", make=files(r="x"))
    yield a("run_of_a_long_name", *MADE, "--run_dir=" + "r" * 300)
    yield a(
        "run_of_another",
        *MADE,
        "--seed=5",
        "--run_dir=r",
        says=("--run_dir", "seed"),
        make=run_folder(history__jsonl=""),
    )
    yield a("export_among_processes", *MADE, "--export_dir=/proc/kerasft")
    yield a("export_to_a_file", *MADE, "--export_dir=e", make=files(e="x"))
    yield a("export_of_a_long_name", *MADE, "--export_dir=" + "e" * 300)
    yield a("cache_among_processes", *MADE, "--keep_cache", "--cache_dir=/proc/kerasft")
    yield a("cache_that_is_not_kept", *MADE, "--cache_dir=c", says=("--cache_dir", "needs --keep_cache"))
    yield a("cache_in_a_file", *MADE, "--keep_cache", "--cache_dir=c", make=files(c="x"))
    yield a("cache_of_a_long_name", *MADE, "--keep_cache", "--cache_dir=" + "c" * 300)
    run = (*MADE, "--run_dir=r")
    for name, content in (("torn", '{"data": "gen'), ("list", "[]"), ("words", "nothing"), ("empty", "")):
        yield a(
            f"config_{name}",
            *run,
            says=("config.json",),
            make=run_folder(begun=False, config__json=content, history__jsonl=""),
            received=False,
        )
        yield a(f"metrics_{name}", *run, says=("metrics.json",), make=run_folder(metrics__json=content), received=False)
        stopped = {"checkpoint-0__npz": "", "settled__json": content}
        yield a(f"settled_{name}", *run, says=("settled.json",), make=run_folder(**stopped), received=False)
    yield a(
        "metrics_without_test",
        *run,
        says=("metrics.json",),
        make=run_folder(metrics__json='{"task": "single_label"}'),
        received=False,
    )
    for size in (100, 20_000):
        limit = {"largest": size}
        yield a(f"files_of_{size}", *run, says=("r",), options=limit, received=False)
    yield a(
        "exports_of_20000", *run, "--export_dir=e", says=(), options={"largest": 60_000}, received=False, large=True
    )


def backbones() -> Iterator[Row]:
    made = ("--data=generated:2x8", "--image_size=32", "--weights=none", "--augment=none", "--precision=float32")
    yield a("backbone_misspelt", *made, "--backbone=MobilNet", says=("--backbone", "'MobileNet'"))
    yield a("no_such_backbone_file", *made, "--backbone=nowhere.keras", says=("--backbone", "no such file"))
    yield a("no_such_preset", *made, "--backbone=hub:nowhere", says=("--backbone", "KerasHub"))
    torn = ("--data=generated:2x8", "--image_size=32", "--backbone=b.keras")
    yield a("backbone_torn", *torn, absent=("no such file", "not found"), make=_torn)
    yield a("backbone_of_words", *torn, absent=("no such file", "not found"), make=files(b__keras="words"))
    yield a("backbone_of_nothing", *torn, absent=("no such file", "not found"), make=files(b__keras=""))
    yield a("backbone_of_another_archive", *torn, make=_archive)
    yield a("backbone_h5_of_words", *torn[:-1], "--backbone=b.h5", make=files(b__h5="words"))
    yield a("backbone_is_a_folder", *torn, make=lambda cwd, _: (cwd / "b.keras").mkdir())
    yield a("backbone_is_a_pipe", *torn, make=lambda cwd, _: os.mkfifo(cwd / "b.keras"))
    for name in ("nested", "sequential", "tokens", "two_inputs"):
        yield a(
            f"backbone_{name}",
            *MADE,
            f"--backbone={{{name}}}",
            "--phases=all(epochs=1)",
            says="--backbone",
            status=(0, 2),
            received=False,
            large=True,
        )
    yield a("weights_by_argument", *made, "--backbone=MobileNet(weights='no.h5')", says=("--weights", "no.h5"))
    yield a("weights_by_number", *made, "--backbone=MobileNet(weights=3)", says=("--backbone", "weights="))
    yield a("backbone_twice", *made, "--backbone=MobileNet | MobileNet", says=("--backbone", "once"))
    yield a("backbone_auto_in_a_list", *made, "--backbone=auto | MobileNet", says=("--backbone", "alone"))
    listed = "--backbone=MobileNet(alpha=0.25) | MobilNet"
    yield a("backbone_misspelt_in_a_list", *made, listed, says=("--backbone, MobilNet", "'MobileNet'"))
    yield a("top_by_argument", *made, "--backbone=MobileNet(include_top=True)", says=("--backbone", "include_top"))
    yield a("alpha_of_text", *made, "--backbone=MobileNet(alpha='x')")
    yield a("alpha_below_0", *made, "--backbone=MobileNet(alpha=-1)")
    weights = (*made[:2], "--backbone=MobileNet(alpha=0.25)")
    yield a("no_such_weights", *weights, "--weights=nowhere.h5")
    yield a("weights_of_words", *weights, "--weights=w.h5", make=files(w__h5="words"))
    yield a("weights_of_another_ending", *weights, "--weights=w.txt", make=files(w__txt="words"))
    yield a("weights_of_another_backbone", *made[:2], "--backbone=MobileNetV2(alpha=0.35)", "--weights=bundled")
    yield a("size_of_another", *made[:1], "--backbone={flat}", "--image_size=32")
    yield a("abstain_misspelt", *MADE, "--abstain=distanse", says=("--abstain", "'distance'"))
    yield a("abstain_keeps_all", *MADE, "--abstain=auto(keep=1.5)", says=("--abstain", "between 0 and 1"))
    yield a("abstain_twice", *MADE, "--abstain=energy | distance", says=("--abstain", "not 2"))
    yield a("coverage_of_all", *MADE, "--coverage=1", says=("--coverage", "0.9999"))
    yield a("coverage_of_few_images", *MADE, "--coverage=0.99", says=("--coverage", "at least 99 validation images"))
    yield a("gate_without_baseline", *MADE, "--gate", says=("--gate", "--baseline"))
    yield a("boosted_trees_of_no_kind", *MADE, "--boosted_trees=maybe", says=("--boosted_trees", "maybe"))
    yield a("robustness_misspelt", *MADE, "--robustness=ful", says=("--robustness", "'full'"))
    yield a("no_such_baseline", *MADE, "--baseline=nowhere/1")
    yield a("baseline_of_other_classes", *MADE, "--baseline={model}/1", says=("--baseline", "it does not know"))
    yield a("tta_misspelt", *MADE, "--tta=flop", says=("--tta", "'flip'"))
    yield a("preprocessing_of_a_file", *MADE, "--preprocessing=caffe")


def _torn(cwd: Path, places: dict[str, str]) -> None:
    whole = Path(places["tiny"]).read_bytes()
    (cwd / "b.keras").write_bytes(whole[: len(whole) // 2])


def _archive(cwd: Path, _: dict[str, str]) -> None:
    with zipfile.ZipFile(cwd / "b.keras", "w") as file:
        file.writestr("config.json", "{}")


def artefact_files(*names: str) -> Callable[[Path, dict[str, str]], None]:
    """Makes empty files of artefacts in `m/1`, each in a folder by its runtime."""

    def make(cwd: Path, _: dict[str, str]) -> None:
        for name in names:
            path = cwd / "m" / "1" / {"model.onnx": "onnx", "model.tflite": "litert"}[name] / name
            path.parent.mkdir(parents=True)
            path.touch()

    return make


two_artefacts = artefact_files("model.onnx", "model.tflite")


def predictions() -> Iterator[Row]:
    yield a("no_model", "--mode=predict", "--images={photos}", says="--model")
    yield a("dry_run_of_predict", "--mode=predict", "--dry_run", says=("--dry_run", "train"))
    yield a("preset_misspelt", "--preset=quickstrat", says=("--preset", "quickstart"))
    yield a("no_such_model", *PREDICT, "--model=nowhere")
    yield a("model_is_a_file", *PREDICT, "--model={table}")
    yield a("model_is_an_empty_folder", *PREDICT, "--model=m", make=lambda cwd, _: (cwd / "m").mkdir())
    broken = (*PREDICT, "--model=broken")
    for name, change in {
        "graph_empty": lambda v: (v / "saved_model.pb").write_bytes(b""),
        "graph_of_words": lambda v: (v / "saved_model.pb").write_bytes(b"words, and no graph"),
        "graph_torn": lambda v: os.truncate(v / "saved_model.pb", 4000),
        "variables_gone": lambda v: next(v.glob("variables/*.data*")).unlink(),
        "index_gone": lambda v: next(v.glob("variables/*.index")).unlink(),
        "variables_torn": lambda v: _variables(v, lambda contents: contents[:500]),
        "variables_of_words": lambda v: _variables(v, lambda contents: b"words" * (len(contents) // 5)),
        "about_torn": lambda v: (v / "assets.extra" / "kerasft.json").write_text('{"classes": ['),
    }.items():
        # Without what it says of itself a model still answers: the names of its classes are in its graph.
        answers = {"says": (), "status": (0,), "received": False} if name == "about_torn" else {}
        yield a(f"model_{name}", *broken, **{"says": ("--model", "broken")} | answers, make=broken_model(change))
    yield a("model_of_another_program", *PREDICT, "--model={foreign}")
    explain = ("--mode=explain", "--model={model}")
    yield a("explain_nothing", explain[0], says=("--model", "finished run"))
    yield a("explain_a_saved_model", *explain, says=("--model", "finished run"))
    yield a("explain_no_image", *explain, "--images=*.nothing")
    yield a("explain_into_a_file", *explain, "--out=f", make=files(f="x"))
    yield a("explain_among_processes", *explain, "--out=/proc/x")
    yield a("no_such_artefact", *PREDICT, "--artefact=onnx", says=("--artefact", "empty"))
    yield a("one_of_two_artefacts", *PREDICT, "--model=m", says=("--artefact", "litert, onnx"), make=two_artefacts)
    torn = artefact_files("model.onnx")
    yield a("artefact_alone", *PREDICT, "--model=m/1/onnx", says="--model", make=torn)
    yield a("no_images", *PREDICT[:2], says="--images")
    yield a("no_image_matches", *PREDICT[:2], "--images=*.nothing")
    yield a(
        "images_of_no_path", *PREDICT[:2], "--images=t.csv", says=("--images", "path"), make=files(t__csv="a,b\n1,2\n")
    )
    yield a("images_not_utf8", *PREDICT[:2], "--images=t.csv", make=files(t__csv=b"path\n\xff\n"))
    yield a("images_of_processes", *PREDICT[:2], "--images=/proc/self/task", says=(), status=(0, 2), received=False)
    yield a("images_is_a_pipe", *PREDICT[:2], "--images=p.jpg", make=lambda cwd, _: os.mkfifo(cwd / "p.jpg"))
    yield a("images_of_a_long_name", *PREDICT[:2], "--images=" + "i" * 300)
    yield a("table_of_another_form", *PREDICT, "--out=x.txt", says=("--out", ".csv"))
    yield a("out_is_a_folder", *PREDICT, "--out=x.csv", make=lambda cwd, _: (cwd / "x.csv").mkdir())
    yield a("out_among_processes", *PREDICT, "--out=/proc/x.csv")
    yield a("out_below_a_file", *PREDICT, "--out=f/x.csv", make=files(f="x"))
    yield a("out_of_a_long_name", *PREDICT, "--out=" + "o" * 300 + ".csv")
    yield a("out_of_100_bytes", *PREDICT, "--out=x.csv", options={"largest": 100})
    yield a("url_of_words", *PREDICT, "--url=words")
    yield a("url_of_another_scheme", *PREDICT, "--url=file:///etc/passwd")
    yield a("url_with_a_password", *PREDICT, "--url=http://a:b@localhost/v1/models/x")
    yield a("url_of_no_port", *PREDICT, "--url=http://localhost:99999/v1/models/x")
    yield a(
        "key_of_escapes",
        *PREDICT,
        "--url=http://127.0.0.1:9/v1/models/x",
        says="KERASFT_API_KEY",
        options={"env": {"KERASFT_API_KEY": "\x1b[2J"}},
    )


def servers() -> Iterator[Row]:
    yield a("serve_no_model", "--mode=serve", says="--model")
    yield a("serve_no_such_model", *SERVE, "--model=nowhere")
    yield a(
        "serve_a_broken_model",
        *SERVE,
        "--model=broken",
        says="--model",
        make=broken_model(lambda v: (v / "saved_model.pb").write_bytes(b"")),
    )
    yield a("serve_no_such_artefact", *SERVE, "--artefact=onnx")
    yield a("port_of_99999", *SERVE, "--port=99999")
    yield a("port_of_words", *SERVE, "--port=http")
    yield a("no_such_host", *SERVE, "--host=nowhere.invalid")
    yield a("host_of_another", *SERVE, "--host=192.0.2.1")
    for flag, value in (
        ("max_batch", "0"),
        ("max_queue", "0"),
        ("max_delay_ms", "-1"),
        ("max_body_mb", "0"),
        ("max_megapixels", "0"),
        ("timeout_seconds", "nan"),
        ("max_body_mb", "inf"),
    ):
        yield a(f"{flag}_of_{value}", *SERVE, f"--{flag}={value}")
    yield a("no_such_keys", *SERVE, "--api_key_file=nowhere")
    yield a("keys_empty", *SERVE, "--api_key_file=k", make=files(k="\n\n"))
    yield a("keys_not_ascii", *SERVE, "--api_key_file=k", make=files(k="Schlüssel\n"))
    yield a("keys_are_a_folder", *SERVE, "--api_key_file=.")


def searches() -> Iterator[Row]:
    yield a("tune_without_search", *TUNE, says="--search")
    yield a("search_of_a_name", *TUNE, "--search=lr")
    yield a("search_of_no_setting", *TUNE, "--search=learning=choice(1, 2)", says=("--search", "learning"))
    yield a("search_from_0_by_log", *TUNE, "--search=lr=log(0, 1)")
    yield a("search_from_high_to_low", *TUNE, "--search=batch_size=int(64, 16)")
    yield a("search_of_no_choice", *TUNE, "--search=optimizer=choice()")
    yield a("search_out_of_range", *TUNE, "--search=batch_size=choice(0, 16)")
    yield a("search_of_code", *TUNE, "--search=optimizer=choice(os.system('touch PWNED'))")
    yield a("tuner_misspelt", *TUNE, SEARCH, "--tuner=bayes", says=("--tuner", "bayesian"))
    yield a("tuner_of_no_trials", *TUNE, SEARCH, "--tuner=random(trials=0)")
    yield a(
        "hyperband_with_epochs", *TUNE, "--search=epochs=int(1, 5)", "--tuner=hyperband", says=("--search", "epochs")
    )
    twice = "--search=lr=log(1e-4, 1e-2); phases.head.lr=log(1e-4, 1e-2)"
    yield a("search_of_a_rate_twice", *TUNE, "--phases=head(epochs=1)", twice, says=("--search", "phases.head.lr"))
    yield a("objective_misspelt", *TUNE, SEARCH, "--objective=val_acuracy", says=("--objective", "val_accuracy"))
    yield a("objective_of_test", *TUNE, SEARCH, "--objective=accuracy")
    yield a("budget_of_0", *TUNE, SEARCH, "--budget_minutes=0")
    yield a("budget_of_nan", *TUNE, SEARCH, "--budget_minutes=nan")
    yield a("budget_of_soon", *TUNE, SEARCH, "--budget_minutes=soon")
    yield a("winner_misspelt", *TUNE, SEARCH, "--winner_phases=al")
    yield a("search_in_a_full_folder", *TUNE, SEARCH, "--run_dir=r", make=run_folder(begun=False, letter__txt="x"))
    yield a("search_among_processes", *TUNE, SEARCH, "--run_dir=/proc/kerasft")
    torn = run_folder(begun=False, search__json='{"config": {')
    yield a("search_torn", *TUNE, SEARCH, "--run_dir=r", says="search.json", make=torn, received=False)
    alone = {"env": {"KERASTUNER_ORACLE_IP": "127.0.0.1"}}
    yield a("tuner_half_named", *TUNE, SEARCH, says="KERASTUNER_ORACLE_IP", options=alone)


def comparisons() -> Iterator[Row]:
    yield a("compare_of_one", *COMPARE, "--strategies=head")
    yield a("compare_misspelt", *COMPARE, "--strategies=head; al", says=("--strategies", "did you mean 'all'?"))
    yield a("compare_twice", *COMPARE, "--strategies=all; all")
    yield a("compare_of_other_data", *COMPARE, "--strategies=head; --data=digits --phases=all")
    yield a("compare_of_no_flag", *COMPARE, "--strategies=head; --learning=fast", says=("--strategies", "--learning"))
    yield a("compare_of_code", *COMPARE, "--strategies=head; os.system('touch PWNED')", says="--allow_imports")
    yield a("compare_of_a_value", *COMPARE, "--strategies=head; --batch_size=0", says="--batch_size")
    yield a("compare_in_a_full_folder", *COMPARE, "--run_dir=r", make=run_folder(begun=False, letter__txt="x"))
    yield a("compare_among_processes", *COMPARE, "--run_dir=/proc/kerasft")
    torn = run_folder(begun=False, compare__json='{"rows": [', entries="")
    yield a("compare_torn", *COMPARE, "--run_dir=r", says="--run_dir", make=torn)


def teachers() -> Iterator[Row]:
    yield a("teacher_nowhere", *MADE, "--teacher=nowhere", says=("--teacher", "model.keras"))
    yield a("teacher_of_other_classes", *MADE, "--teacher={model}", says=("--teacher", "0000-contour", "käfer"))
    yield a("teacher_twice", *MADE, "--teacher={model} | {model}")
    about = files(metrics__json='{"task": "regression", "classes": ["a"], "image_size": 32}', model__keras="words")
    yield a("teacher_of_another_task", *MADE, "--teacher=.", says=("--teacher", "task single_label"), make=about)
    names = '["0000-contour", "0001-fractal"]'
    about = files(
        metrics__json=f'{{"task": "single_label", "classes": {names}, "image_size": 32}}', model__keras="words"
    )
    yield a("teacher_of_words", *MADE, "--teacher=.", says=("--teacher", "model.keras"), make=about)
    yield a("distill_without_a_teacher", *MADE, "--distill=logits(weight=1)", says=("--distill", "--teacher"))
    taught = (*MADE, "--teacher={model}")
    yield a("unlabelled_without_a_teacher", *MADE, "--unlabelled={photos}", says=("--unlabelled", "--teacher"))
    yield a("unlabelled_nowhere", *taught, "--unlabelled=folder:nowhere", says=("--unlabelled", "no such folder"))
    yield a("unlabelled_in_a_table", *taught, "--unlabelled={table}", says=("--unlabelled", "folder:DIR"))
    yield a("unlabelled_of_the_machine", *taught, "--unlabelled=folder:/proc", says=("--unlabelled", "/proc"))
    yield a("unlabelled_without_files", *taught, "--unlabelled=empty", make=lambda cwd, _: (cwd / "empty").mkdir())
    learns = (*taught, "--unlabelled={photos}")
    yield a("unlabelled_and_balanced", *learns, "--sampling=balanced", says=("--sampling", "--unlabelled"))
    yield a("unlabelled_features", *learns, "--distill=features", says=("--distill", "--unlabelled"))
    yield a("distill_misspelt", *taught, "--distill=logit", says=("--distill", "logits"))
    yield a("distill_at_0_degrees", *taught, "--distill=logits(temperature=0)")
    yield a("distill_of_no_weight", *taught, "--distill=logits(weight=0)")
    yield a("distill_twice", *taught, "--distill=logits | logits")
    yield a("distill_features_of_no_weight", *taught, "--distill=features(weight=0)")


GROUPS = {
    "flags": command_line,
    "flagfiles": flagfiles,
    "code from outside": outside_code,
    "specs": specs,
    "data": data,
    "folders and their files": places,
    "networks": backbones,
    "teachers": teachers,
    "predict": predictions,
    "serve": servers,
    "tune": searches,
    "compare": comparisons,
}
ROWS = [row for group in GROUPS.values() for row in group()]
