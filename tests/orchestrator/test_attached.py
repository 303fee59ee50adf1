"""Images and files that go with a prompt: in each wire format, in the key, and within limits."""

import base64
import json

import pytest

from orchestrator import run
from orchestrator.errors import FailureKind, SpecError, StepError
from orchestrator.providers import Message, Request, connect
from orchestrator.providers.base import Attachment
from orchestrator.steps.attached import IMAGE_MAX_BYTES, media_type
from orchestrator.testing import serve

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
PDF = b"%PDF-1.7 and so on"
IMAGE = Attachment(name="a.png", media_type="image/png", data=PNG)
PAPER = Attachment(name="a.pdf", media_type="application/pdf", data=PDF)


def b64(data):
    return base64.b64encode(data).decode()


def content(name, *attachments):
    message = Message("user", "What is this?", attachments)
    provider = connect(name, environ={})
    return provider.body(Request(model="m", messages=(message,)))["messages"][0]


# Wire formats


def test_openai_gets_parts():
    assert content("openai", IMAGE, PAPER)["content"] == [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(PNG)}"}},
        {
            "type": "file",
            "file": {
                "filename": "a.pdf",
                "file_data": f"data:application/pdf;base64,{b64(PDF)}",
            },
        },
        {"type": "text", "text": "What is this?"},
    ]


def test_anthropic_gets_blocks():
    image = {"type": "base64", "media_type": "image/png", "data": b64(PNG)}
    paper = {"type": "base64", "media_type": "application/pdf", "data": b64(PDF)}
    assert content("anthropic", IMAGE, PAPER)["content"] == [
        {"type": "image", "source": image},
        {"type": "document", "source": paper},
        {"type": "text", "text": "What is this?"},
    ]


def test_ollama_gets_images_beside_the_text():
    assert content("ollama", IMAGE) == {
        "role": "user",
        "content": "What is this?",
        "images": [b64(PNG)],
    }


@pytest.mark.parametrize(("name", "item"), [("ollama", PAPER), ("mlx", PAPER), ("mlx", IMAGE)])
def test_what_a_wire_format_has_no_place_for_is_refused(name, item):
    told = {"ollama": "ollama takes no PDF with", "mlx": "mlx takes no image and no PDF with"}[name]
    with pytest.raises(StepError, match=told) as caught:
        content(name, item)
    assert caught.value.kind is FailureKind.BAD_REQUEST


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (PDF, "application/pdf"),
        ("größer".encode(), "text/plain"),
        (b"", "text/plain"),
        (b"\x00\x01", None),
        (b"\xff\xfe", None),
    ],
)
def test_a_file_is_what_its_content_says(data, kind):
    assert media_type(data) == kind


# In a job


@pytest.fixture
def job(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "note.txt").write_text("The Rhine is long.")

    def make(**llm):
        step = {"llm": {"prompt": "What is this?", **llm}}
        spec = {"project": "p", "provider": "openai", "model": "m", "steps": {"a": step}}
        (tmp_path / "job.json").write_text(json.dumps(spec))
        return str(tmp_path / "job.json")

    return make


def test_files_of_the_spec_go_with_the_prompt(job, tmp_path):
    with serve() as server:
        how = {"runs_dir": str(tmp_path / "runs"), "environ": server.environ()}
        path = job(images=["a.png"], files=["./note.txt"])
        assert run(path, **how).ok
        parts = server.calls()[0].body["messages"][0]["content"]
        assert parts[0]["image_url"]["url"].endswith(b64(PNG))
        assert parts[1]["text"] == "What is this?\n\n--- note.txt ---\nThe Rhine is long."
        # The content is in the key: the same again is a hit, another image is another call.
        assert run(path, **how).ok
        assert len(server.calls()) == 1
        (tmp_path / "a.png").write_bytes(PNG + b"!")
        assert run(path, **how).ok
        assert len(server.calls()) == 2


def test_a_file_that_a_step_published_can_go_on(tmp_path):
    draw = "printf 'The Elbe is long.' > \"$ORCH_OUTPUTS/note.txt\""
    llm = {"prompt": "What is this?", "files": ["{{ steps.draw.files[0].path }}"]}
    steps = {"draw": {"run": draw}, "a": {"needs": "draw", "llm": llm}}
    result = run({"project": "p", "steps": steps}, runs_dir=str(tmp_path))
    assert "The Elbe is long." in result.steps["a"]["text"]


@pytest.mark.parametrize(
    ("content", "llm", "said"),
    [
        (b"\x00\x01", {"files": "x"}, "x is not an image, a PDF or text"),
        (b"text", {"images": "x"}, "x is not a PNG"),
        (PNG + bytes(IMAGE_MAX_BYTES), {"images": "x"}, "at most 5,242,880"),
        (b"", {"files": "{{ '../secret' }}"}, "can't be read"),
        (b"", {"files": "{{ 'nothing' }}"}, "can't be read"),
    ],
)
def test_what_can_not_be_sent_is_refused(job, tmp_path, content, llm, said):
    (tmp_path / "x").write_bytes(content)
    result = run(job(**llm), runs_dir=str(tmp_path / "runs"), environ={"OPENAI_API_KEY": "k" * 9})
    (failure,) = result.state.failures
    assert failure.kind == "bad_request"
    assert said in failure.message


def test_a_file_that_is_not_there_is_told_with_the_spec(job, tmp_path):
    with pytest.raises(SpecError) as caught:
        run(job(images=["gone.png"]), runs_dir=str(tmp_path / "runs"))
    assert "can't read gone.png" in caught.value.render()
