"""The outputs of starts, as the server keeps them: `starts:stream` → JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mpdispatch.model import Output, Stream

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[int, str]).decode


def stored(output: Output) -> tuple[int, int, str, str]:
    """Its job, starts, stream, and the JSON of the rest."""
    text = _encode((output.written, output.text)).decode("utf-8", "replace")
    return output.job_id, output.starts, output.stream.value, text


def outputs_of(job_id: int, found: Iterable[tuple[int, str, str]]) -> list[Output]:
    """The outputs of a job, oldest start first."""
    outputs = list[Output]()
    for starts, stream, kept in sorted(found):
        written, text = _decode(kept)
        outputs.append(Output(job_id=job_id, starts=starts, stream=Stream(stream), text=text, written=written))
    return outputs


def by_place(outputs: Iterable[Output]) -> dict[tuple[int, str], str]:
    """The texts by starts and stream."""
    return {(each.starts, each.stream.value): each.text for each in outputs}
