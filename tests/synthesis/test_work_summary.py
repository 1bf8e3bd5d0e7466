"""The summary of a run of writing: what is of this run, and the totals of all runs."""

from radvqa_jax.synthesis.ledger import Totals
from radvqa_jax.synthesis.writing import Written, describe_work


def test_a_run_is_told_from_the_totals_of_its_workdir() -> None:
    outcomes = {("chat", "written"): 1, ("chat", "no JSON"): 2}
    kinds = {("chat", "open"): 3}
    run = Written(
        pairs=40, new=3, outcomes=outcomes, kinds=kinds, failed={"timeout": 2}, seconds=1.0, calls=4, tokens=50,
        estimated=False,
    )  # fmt: skip
    told = describe_work(run, Totals({"chat: no JSON": 5}, 20, 700, estimated=True)).split("\n")
    assert (
        told[0].startswith("This run: 3 new pairs in 1.0 s; 4 requests were sent") and "    2 rejected: no JSON" in told
    )
    assert "  images without a reply: 2 (timeout). Run the same command again to ask about them." in told
    assert told[-2] == (
        "All runs: 40 pairs; 20 replies were read, of about 700 tokens; 5 images without a usable reply."
    )
    assert told[-1] == "    5 rejected by chat: no JSON"
