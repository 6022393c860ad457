"""Commands that use the exported model, for the report."""

import shlex
from pathlib import Path
from urllib.parse import quote


def serving(path: str, task: str) -> dict[str, str]:
    """Returns ready commands that use the exported model, by title."""
    model = Path(path).parent
    name = model.name
    answer = 'print(answer["values"].numpy()[0])'
    if task != "regression":
        answer = 'print(answer["classes"].numpy()[0], answer["scores"].numpy()[0])'
    python = f"""import tensorflow as tf

model = tf.saved_model.load({path!r})
image = open("image.jpg", "rb").read()
answer = model.signatures["serving_default"](image_bytes=tf.constant([image]))
{answer}"""
    mount = f'"$(realpath {shlex.quote(model.as_posix())})":{shlex.quote(f"/models/{name}")}'
    docker = f"docker run -p 8501:8501 -v {mount} -e {shlex.quote(f'MODEL_NAME={name}')} tensorflow/serving"
    body = """printf '{"instances": [{"b64": "%s"}]}' "$(base64 < image.jpg | tr -d '\\n')" |"""
    curl = f"{body}\n    curl -d @- {shlex.quote(f'http://127.0.0.1:8501/v1/models/{quote(name)}:predict')}"
    command = f"python -m kerasft.run --model={shlex.quote(model.as_posix())}"
    predict, serve = f"{command} --mode=predict --images='new/**/*.jpg'", f"{command} --mode=serve --port=8501"
    ways = {"Python": python, "Command line": predict, "Server, with a page at http://127.0.0.1:8501/": serve}
    return {**ways, "or TensorFlow Serving": docker, "and a request to either": curl}


def repeating(folder: Path) -> str:
    """Returns the command that runs a run again."""
    return f"python -m kerasft.run --flagfile={shlex.quote(f'{folder.as_posix()}/run.flags')} --noresume"


def explaining(folder: Path) -> str:
    """Returns the command that explains the answers of a run."""
    return f"kerasft explain --model={shlex.quote(folder.as_posix())}"
