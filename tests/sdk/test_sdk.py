"""Drives the emulator with the official Python SDK, which knows the service better than we do.

The SDK is the second opinion: what it uploads, reads and parses without complaint has the shape of
the real service. Run it through run.sh, or with --binary or --base-url in an environment that has
requirements.txt installed. The last line is "N passed, N failed"; the exit code is 0 if none failed.
"""

import argparse
import hashlib
import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback

from google import genai
from google.genai import errors, types

MODEL = "gemini-3.8-flash"
CHUNK_BYTES = 8 * 1024 * 1024
START_SECONDS = 30
END_SECONDS = 60
ENDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}
SCHEMA = {
    "type": "OBJECT",
    "properties": {
        "title": {"type": "STRING"},
        "lines": {"type": "ARRAY", "items": {"type": "STRING"}},
    },
    "required": ["title", "lines"],
}


def told_hash(content):
    """The hash as the service writes it: base64 of the hex text."""
    return base64.b64encode(hashlib.sha256(content).hexdigest().encode()).decode()


def request_about(image, key):
    return {
        "key": key,
        "request": {
            "contents": [
                {
                    "role": "user",
                    "parts": [
                        {"file_data": {"file_uri": image.uri, "mime_type": image.mime_type}},
                        {"text": "Transcribe."},
                    ],
                }
            ],
            "generation_config": {
                "response_mime_type": "application/json",
                "response_schema": SCHEMA,
            },
        },
    }


class Tests:
    """Each method whose name starts with test_ is one test."""

    def __init__(self, base_url, folder):
        self.folder = folder
        self.client = genai.Client(
            api_key="sdk-test", http_options=types.HttpOptions(base_url=base_url)
        )
        options = types.HttpOptions(base_url=base_url, api_version="v1beta")
        self.beta = genai.Client(api_key="sdk-test", http_options=options)

    def upload(self, name, content, mime, client=None):
        path = self.folder / name
        path.write_bytes(content)
        config = types.UploadFileConfig(display_name=name, mime_type=mime)
        return (client or self.client).files.upload(file=path, config=config)

    def upload_lines(self, name, lines):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        return self.upload(name, text.encode(), "jsonl")

    def finished(self, job):
        deadline = time.monotonic() + END_SECONDS
        while job.state.name not in ENDED:
            assert time.monotonic() < deadline, f"{job.name} is still {job.state}"
            time.sleep(0.05)
            job = self.client.batches.get(name=job.name)
        return job

    def refused(self, code, status, call):
        try:
            call()
        except errors.APIError as error:
            assert (error.code, error.status) == (code, status), error
            return error
        raise AssertionError(f"no {code} {status}")

    def test_image_upload_get_delete(self):
        content = b"\x89PNG not really"
        for client in (self.client, self.beta):
            image = self.upload("page.png", content, "image/png", client)
            assert image.state.name == "ACTIVE", image
            assert image.size_bytes == len(content), image
            assert image.sha256_hash == told_hash(content), image
            assert image.display_name == "page.png", image
            life = image.expiration_time - image.create_time
            assert 47.9 < life.total_seconds() / 3600 <= 48, life
            again = client.files.get(name=image.name)
            assert again == image, (again, image)
            client.files.delete(name=image.name)
            self.refused(403, "PERMISSION_DENIED", lambda: client.files.get(name=image.name))

    def test_upload_in_chunks(self):
        line = json.dumps({"key": "k", "request": {"contents": [{"parts": [{"text": "x" * 999}]}]}})
        content = (line + "\n").encode() * (2 * CHUNK_BYTES // len(line))
        assert len(content) > CHUNK_BYTES
        file = self.upload("large.jsonl", content, "jsonl")
        assert file.size_bytes == len(content), file
        assert file.sha256_hash == told_hash(content), file
        self.client.files.delete(name=file.name)

    def test_upload_of_exact_chunks_and_of_nothing(self):
        for size in (0, CHUNK_BYTES):
            file = self.upload("exact.bin", b"a" * size, "image/tiff")
            assert file.sha256_hash == told_hash(b"a" * size), (size, file)

    def test_chosen_name(self):
        path = self.folder / "own.png"
        path.write_bytes(b"own")
        name = f"files/own-{time.time_ns()}"
        config = types.UploadFileConfig(name=name, mime_type="image/png")
        assert self.client.files.upload(file=path, config=config).name == name
        self.refused(
            409,
            "ALREADY_EXISTS",
            lambda: self.client.files.upload(file=path, config=config),
        )

    def test_file_list_in_pages(self):
        made = {self.upload(f"{n}.png", bytes([n]), "image/png").name for n in range(5)}
        pager = self.client.files.list(config=types.ListFilesConfig(page_size=2))
        assert len(pager.page) == 2, pager.page
        listed = [file.name for file in pager]
        assert made <= set(listed) and len(set(listed)) == len(listed), (made, listed)

    def test_batch_from_file(self):
        images = {key: self.upload(f"{key}.png", key.encode(), "image/png") for key in ("a", "b")}
        lines = [request_about(image, key) for key, image in images.items()]
        source = self.upload_lines("input.jsonl", lines)
        config = types.CreateBatchJobConfig(display_name="from a file")
        job = self.client.batches.create(model=MODEL, src=source.name, config=config)
        assert job.name.startswith("batches/") and job.display_name == "from a file", job
        job = self.finished(job)
        assert job.state.name == "JOB_STATE_SUCCEEDED", job
        assert job.model == f"models/{MODEL}" and job.end_time >= job.create_time, job
        results = self.client.files.get(name=job.dest.file_name)
        content = self.client.files.download(file=job.dest.file_name)
        assert results.size_bytes == len(content), results
        rows = [json.loads(line) for line in content.decode().splitlines()]
        assert [row["key"] for row in rows] == ["a", "b"], rows
        for row in rows:
            response = types.GenerateContentResponse.model_validate(row["response"])
            answer = json.loads(response.text)
            digest = hashlib.sha256(row["key"].encode()).hexdigest()
            assert row["key"] in answer["title"] and digest in answer["title"], answer
            usage = response.usage_metadata
            parts = usage.prompt_token_count + usage.candidates_token_count
            assert usage.total_token_count == parts + usage.thoughts_token_count, usage
        refusal = lambda: self.client.files.delete(name=job.dest.file_name)
        error = self.refused(400, "INVALID_ARGUMENT", refusal)
        assert "cannot be more than 40 characters" in error.message, error
        self.client.batches.delete(name=job.name)
        self.refused(404, "NOT_FOUND", lambda: self.client.batches.get(name=job.name))
        self.refused(
            403, "PERMISSION_DENIED", lambda: self.client.files.download(file=job.dest.file_name)
        )

    def test_batch_inline(self):
        image = self.upload("inline.png", b"inline", "image/png")
        config = {
            "system_instruction": "You transcribe pages.",
            "temperature": 0,
            "max_output_tokens": 1024,
            "response_mime_type": "application/json",
            "response_schema": SCHEMA,
            "media_resolution": "MEDIA_RESOLUTION_HIGH",
            "thinking_config": {"thinking_level": "LOW"},
        }
        parts = [
            types.Part.from_uri(file_uri=image.uri, mime_type="image/png"),
            types.Part.from_text(text="Transcribe."),
        ]
        lost = types.Part.from_uri(file_uri=image.uri + "0", mime_type="image/png")
        source = [
            types.InlinedRequest(
                contents=[types.Content(role="user", parts=parts)],
                config=config,
                metadata={"key": "p1"},
            ),
            types.InlinedRequest(
                contents=[types.Content(role="user", parts=[lost])], metadata={"key": "p2"}
            ),
        ]
        job = self.finished(self.client.batches.create(model=MODEL, src=source))
        first, second = job.dest.inlined_responses
        assert first.metadata == {"key": "p1"} and second.metadata == {"key": "p2"}, job
        digest = hashlib.sha256(b"inline").hexdigest()
        assert digest in json.loads(first.response.text)["title"], first
        assert second.error.code == 7, second

    def test_batch_list_is_newest_first(self):
        source = self.upload_lines("list.jsonl", [{"key": "k", "request": {"contents": [{"parts": [{"text": "hi"}]}]}}])
        made = []
        for number in range(3):
            config = types.CreateBatchJobConfig(display_name=f"list {number}")
            made.append(self.client.batches.create(model=MODEL, src=source.name, config=config).name)
        config = types.ListBatchJobsConfig(page_size=2)
        listed = [job.name for job in self.client.batches.list(config=config)]
        assert listed[:3] == made[::-1], (listed, made)

    def test_cancel_of_a_finished_batch(self):
        source = self.upload_lines("done.jsonl", [{"key": "k", "request": {"contents": [{"parts": [{"text": "hi"}]}]}}])
        job = self.finished(self.client.batches.create(model=MODEL, src=source.name))
        self.refused(400, "FAILED_PRECONDITION", lambda: self.client.batches.cancel(name=job.name))

    def test_cancel_of_a_new_batch(self):
        """Depends on the latency: a job that has ended already may refuse the cancel."""
        source = self.upload_lines("new.jsonl", [{"key": "k", "request": {"contents": [{"parts": [{"text": "hi"}]}]}}])
        job = self.client.batches.create(model=MODEL, src=source.name)
        try:
            self.client.batches.cancel(name=job.name)
        except errors.ClientError as error:
            assert error.status == "FAILED_PRECONDITION", error
        ended = self.finished(job)
        assert ended.state.name in {"JOB_STATE_CANCELLED", "JOB_STATE_SUCCEEDED"}, ended

    def test_failed_batch(self):
        source = self.upload_lines("bad.jsonl", [{"key": "k", "request": {"contents": [], "nonsense": 1}}])
        job = self.finished(self.client.batches.create(model=MODEL, src=source.name))
        assert job.state.name == "JOB_STATE_FAILED" and job.dest is None, job

    def test_missing_input(self):
        create = lambda: self.client.batches.create(model=MODEL, src="files/nosuchfile00")
        self.refused(404, "NOT_FOUND", create)

    def test_model(self):
        assert self.client.models.get(model=MODEL).name == f"models/{MODEL}"


def start(binary, folder):
    """Starts the emulator of a pagemill binary; gives the process and its address."""
    port_file = folder / "port"
    command = [
        binary, "emulator", "--listen", "127.0.0.1:0",
        "--port-file", str(port_file), "--batch-latency-ms", "300",
    ]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + START_SECONDS
    while not port_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"the emulator of {binary} did not start")
        time.sleep(0.05)
    return process, f"http://127.0.0.1:{port_file.read_text().strip()}"


def run(base_url, folder):
    passed = failed = 0
    tests = Tests(base_url, folder)
    for name in sorted(name for name in dir(Tests) if name.startswith("test_")):
        try:
            getattr(tests, name)()
        except Exception:
            failed += 1
            print(f"FAILED {name}")
            traceback.print_exc(file=sys.stdout)
        else:
            passed += 1
            print(f"ok {name}")
    print(f"{passed} passed, {failed} failed")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", help="a pagemill binary whose emulator is started")
    parser.add_argument("--base-url", default=os.environ.get("GOOGLE_GEMINI_BASE_URL"))
    arguments = parser.parse_args()
    if not arguments.binary and not arguments.base_url:
        parser.error("give --binary or --base-url")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        process, base_url = None, arguments.base_url
        if arguments.binary:
            process, base_url = start(arguments.binary, folder)
        try:
            failed = run(base_url, folder)
        finally:
            if process:
                process.terminate()
                process.wait()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
