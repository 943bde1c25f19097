"""The table, the JSON, and the document they go into."""

import json
from pathlib import Path

from edgecnn.stats import Comparison
from scripts.peer_bench.rows import Failed, Measured, Row, as_json, as_table, put_between_marks


def measured(
    name: str, *, form: str = "int8", p50_us: float = 10.0, ours: bool = False, made_by: str = "m"
) -> Measured:
    return Measured(
        name=name,
        form="float" if form == "float" else "int8",
        ours=ours,
        input="float32 1x3x32x32",
        made_by=made_by,
        top1=0.6853,
        drop=Comparison(delta=0.0041, low=-0.001, high=0.0092),
        p50_us=p50_us,
        p90_us=p50_us + 1,
        calls=1000,
        ratio=Comparison(delta=0.5, low=0.4, high=0.6),
    )


def test_the_table_has_float_before_int8_the_quicker_first_and_failures_last() -> None:
    rows: list[Row] = [
        Failed(name="Gone", reason="does not install: {x} | y\nz"),
        measured("slow", p50_us=40),
        measured("quick", ours=True),
        measured("plain", form="float", p50_us=99),
    ]
    lines = as_table(rows, "the best").splitlines()
    assert "latency / the best (95%)" in lines[0]
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == ["plain", "**quick**", "slow", "Gone"]
    assert lines[3] == (
        "| **quick** | float32 1x3x32x32 | 68.53% | +0.41 (-0.10 to +0.92) | 10.0 | 0.50 (0.40 to 0.60) | m |"
    )
    assert lines[5].endswith(r"| did not run: does not install: {x} \| y z |")


def test_json_tells_who_ran_and_what_holds_for_all() -> None:
    told = json.loads(json.dumps(as_json([measured("a"), Failed(name="b", reason="why")], {"reference": "a"})))
    assert told["reference"] == "a"
    assert told["rows"][0]["ratio"] == {"delta": 0.5, "low": 0.4, "high": 0.6}
    assert told["rows"][1] == {"name": "b", "reason": "why", "ran": False}


def test_a_documents_table_is_replaced_and_what_people_wrote_stays(tmp_path: Path) -> None:
    document = tmp_path / "peers.md"
    document.write_text("# Peers\n\nwritten by hand\n")
    put_between_marks(document, "one", "old\n")
    put_between_marks(document, "two", r"a \1 b" + "\n")
    document.write_text(document.read_text() + "the end\n")
    put_between_marks(document, "one", "new\n")
    text = document.read_text()
    assert "old" not in text
    assert text.startswith("# Peers\n\nwritten by hand\n<!-- bench_peers one -->\nnew\n<!-- end of bench_peers one -->")
    assert text.endswith("a \\1 b\n<!-- end of bench_peers two -->\nthe end\n")
