"""Whose images count: bridges, withdrawals, matches with genotypes, repeat visits."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgwas.errors import InconsistentError, MalformedError, RefusedError, UsageError
from imgwas.images.bridge import (
    apply_bridge,
    leave_out_withdrawn,
    read_bridge,
    read_withdrawn,
)
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.matching import match_people, read_people, shape_of, shapes
from imgwas.images.visits import average_visits, choose_visits
from imgwas.types import Latents


def images(*who):
    """Images named ``id`` or ``id@visit``."""
    parts = [w.partition("@") for w in who]
    return ImageList(
        tuple(ImageFile(i, Path(f"{i}_{v}.nii.gz"), visit=v) for i, _, v in parts)
    )  # fmt: skip


def names(found):
    return [f"{f.sample_id}@{f.visit}" if f.visit else f.sample_id for f in found]


def notes(found):
    return {note.reason: note.n for note in found.dropped}


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


# --- bridges ------------------------------------------------------------------------------------


def test_a_bridge_gives_the_ids_of_the_genotypes(tmp_path):
    path = write(tmp_path / "b.csv", "eid_images,eid_genotypes", "007,A1", "17,A2", "17,A2", "9,A9")
    bridge = read_bridge(path)
    assert bridge == {"007": "A1", "17": "A2", "9": "A9"}
    found = apply_bridge(images("17@2", "17@3", "007@2", "7@2"), bridge)
    assert names(found) == ["A2@2", "A2@3", "A1@2"]
    assert notes(found) == {"not in the bridge table": 1}


def test_columns_of_a_bridge_are_chosen_by_name(tmp_path):
    frame = pd.DataFrame({"batch": [1, 2], "IID": ["x", "y"], "eid": [10, 11]})
    frame.to_parquet(tmp_path / "b.parquet")
    assert read_bridge(tmp_path / "b.parquet", image_id="eid", genotype_id="IID") == {
        "10": "x", "11": "y"}  # fmt: skip
    with pytest.raises(MalformedError, match=r"3 columns.*--bridge-columns eid,IID"):
        read_bridge(tmp_path / "b.parquet")
    with pytest.raises(UsageError, match="no column 'eids'"):
        read_bridge(tmp_path / "b.parquet", image_id="eids", genotype_id="IID")


def test_bridges_that_are_not_one_to_one_are_refused_with_counts(tmp_path):
    path = write(tmp_path / "b.tsv", "a\tb", "1001\tx1", "1001\tx2", "1002\tx3", "1003\tx3",
                 "1004\tx3", "1005\tx5")  # fmt: skip
    with pytest.raises(InconsistentError) as raised:
        read_bridge(path)
    assert raised.value.exit_code == 7
    message = str(raised.value)
    assert "1 image ids have several genotype ids (first: ##01)" in message
    assert "1 genotype ids belong to several image ids (first: x3)" in message
    assert "100" not in message


@pytest.mark.parametrize("rows", [("1001\tx1", "1001\tx2"), ("1001\tx1", "1002\tx1")])
def test_either_side_of_a_bridge_may_be_at_fault(tmp_path, rows):
    with pytest.raises(InconsistentError, match="is not one to one"):
        read_bridge(write(tmp_path / "b.tsv", "a\tb", *rows))


def test_a_bridge_without_a_header(tmp_path):
    path = write(tmp_path / "b.txt", "1000017 2000017", "1000023 2000023")
    with pytest.raises(MalformedError, match="header may be missing") as raised:
        read_bridge(path)
    assert "1000017" not in str(raised.value)


@pytest.mark.parametrize(
    ("who", "bridge", "message"),
    [
        (["5001", "5002"], {"7001": "5001", "7002": "5002"}, "2 are in its other column"),
        (["sub-5001"], {"5001": "a"}, "1 would match if the prefix 'sub-' were removed"),
        (["5001"], {"A": "b"}, r"of images look like #### \(1\); of the bridge like A \(1\)"),
    ],
)
def test_a_bridge_that_knows_nobody(who, bridge, message):
    with pytest.raises(InconsistentError, match=message):
        apply_bridge(images(*who), bridge)


# --- withdrawals --------------------------------------------------------------------------------


def test_withdrawn_people_are_refused_by_count_only(tmp_path):
    path = write(tmp_path / "w.csv", "1000017", "1000099")
    with pytest.raises(RefusedError) as raised:
        leave_out_withdrawn(images("1000017@2", "1000017@3", "1000023@2"), read_withdrawn(path))
    assert raised.value.exit_code == 21
    message = str(raised.value)
    assert message.startswith("1 people with images withdrew from the study. ")
    assert "--drop-withdrawn" in message
    assert not any(word in message for word in ("1000017", "##", "17"))


def test_withdrawn_people_are_left_out_on_request(caplog):
    caplog.set_level(logging.WARNING, "imgwas")
    found = leave_out_withdrawn(images("17@2", "17@3", "23@2"), {"17"}, drop=True)
    assert names(found) == ["23@2"]
    assert notes(found) == {"withdrew from the study": 2}
    assert found.dropped[0].examples == ""
    assert "2 images of withdrawn people are left out" in caplog.text


def test_without_withdrawn_people_nothing_changes():
    found = images("17", "23")
    assert leave_out_withdrawn(found, {"99"}) is found
    assert leave_out_withdrawn(found, frozenset()) is found


@pytest.mark.parametrize("line", ["17,2024-01-01", '"17"', "17;x"])
def test_lists_of_withdrawals_that_would_overlook_somebody(tmp_path, line):
    with pytest.raises(MalformedError, match="1 lines hold commas or quotation marks"):
        read_withdrawn(write(tmp_path / "w.csv", "99", line))


def test_withdrawn_ids_that_match_only_after_a_repair():
    with pytest.raises(RefusedError, match=r"1 would match if the prefix 'sub-' were removed"):
        leave_out_withdrawn(images("sub-1000017", "sub-1000023"), {"1000017"}, drop=True)


# --- genotypes ----------------------------------------------------------------------------------


def test_the_match_is_counted_on_both_sides(caplog):
    caplog.set_level(logging.INFO, "imgwas")
    found, match = match_people(images("a@2", "a@3", "b@2", "c@2"), ["b", "a", "x", "y", "z"])
    assert names(found) == ["a@2", "a@3", "b@2"]
    assert (match.n_matched, match.n_only_images, match.n_only_genotypes) == (2, 1, 3)
    assert notes(found) == {"no genotypes": 1}
    assert "only genotypes                3" in caplog.text


@pytest.mark.parametrize(
    ("mine", "theirs", "message"),
    [
        (
            ["IXI12-HH-1", "IXI13-HH-2"],
            ["IXI012HH1", "x"],
            "look like IXI##-H*-# (2); of genotypes like IXI###H*# (1), x (1)",
        ),
        (["sub-07", "sub-08"], ["07", "08"], "2 would match if the prefix 'sub-' were removed"),
        (["7", "8"], ["007", "008"], "leading zeros were ignored"),
        (["7_2_0", "8_2_0"], ["7", "8"], "a visit suffix such as '_2_0'"),
        (["7", "8"], ["F7_7", "F8_8"], "'FID_IID' were split"),
        (["7.0", "8.0"], ["7", "8"], "a trailing '.0'"),
        (["UKB7001", "UKB7002"], ["7001", "7002"], "letters before the number were removed"),
        (["subAB12", "subAB13"], ["AB-12", "AB_13"], "dashes and underscores were ignored"),
        (["ann", "bob"], ["ANN", "BOB"], "upper and lower case"),
        (["p1", "p2", "q"], ["'p1'", "'p2'"], "quotation marks"),
    ],
)
def test_nobody_in_common_is_diagnosed(mine, theirs, message):
    with pytest.raises(InconsistentError) as raised:
        match_people(images(*mine), theirs)
    assert raised.value.exit_code == 7
    assert f"0 of {len(mine)} people with images are among the {len(theirs)}" in str(raised.value)
    assert message in str(raised.value)


def test_too_few_in_common():
    mine = images(*(f"p{i}" for i in range(10)))
    theirs = [f"p{i}" for i in range(4)] + [f"x{i}" for i in range(10)]
    with pytest.raises(InconsistentError, match=r"4 of 10 .* At least 50% of the smaller side"):
        match_people(mine, theirs)
    assert len(match_people(mine, theirs, min_overlap=0.4)[0]) == 4


def test_the_smaller_side_decides():
    mine = images(*(f"p{i}" for i in range(10)))
    assert len(match_people(mine, ["p1", "p2", "p3", "x"])[0]) == 3
    with pytest.raises(InconsistentError, match="1 of 10"):
        match_people(mine, ["p1", "x", "y", "z"])


def test_a_person_twice_in_the_genotypes():
    with pytest.raises(InconsistentError, match="1 people with images have several rows"):
        match_people(images("a", "b"), ["a", "a", "b"])
    assert len(match_people(images("a", "b"), ["a", "x", "x", "b"])[0]) == 2


def test_people_are_read_from_every_usual_file(tmp_path):
    fam = write(tmp_path / "c.fam", "F1 007 0 0 1 -9", "F2 008 0 0 2 -9")
    psam = write(tmp_path / "c.psam", "#IID\tSEX", "007\t1", "008\t2")
    keep = write(tmp_path / "keep.txt", "007", "008")
    table = write(tmp_path / "c.tsv", "IID\tage", "007\t50", "008\t60")
    for path in (fam, psam, keep, table):
        assert read_people(path) == ("007", "008")


@given(st.text(st.characters(codec="ascii"), max_size=30))
def test_shapes_hold_no_digit_and_few_letters(sample_id):
    shape = shape_of(sample_id)
    if sample_id.isprintable():
        assert not any(c.isdigit() for c in shape)
        assert sum(c.isalpha() for c in shape) <= 4
    assert shape.isprintable()


def test_shapes_are_counted():
    assert shapes(["a1", "a2", "b12", "c-1", "c-2", "c-3", "dd", "7"]) == (
        "c-# (3), a# (2), # (1) and 2 other shapes"
    )


# --- visits -------------------------------------------------------------------------------------

THREE = images("a@2", "a@3", "b@3", "c@10", "c@9")


@pytest.mark.parametrize(
    ("rule", "kept", "left_out"),
    [
        ("first", ["a@2", "b@3", "c@9"], {"not the first visit": 2}),
        ("last", ["a@3", "b@3", "c@10"], {"not the last visit": 2}),
        ("all", names(THREE), {}),
        ("average", names(THREE), {}),
        ("3", ["a@3", "b@3"], {"not the visit 3": 1, "the person has no visit 3": 2}),
        (
            "3,9",
            ["a@3", "b@3", "c@9"],
            {"a visit that comes first is there": 2},
        ),
        ("2,3", ["a@2", "b@3"],
         {"a visit that comes first is there": 1, "the person has no visit 2 or 3": 2}),
    ],
)  # fmt: skip
def test_visits_by_rule(rule, kept, left_out):
    found = choose_visits(THREE, rule)
    assert sorted(names(found)) == sorted(kept)
    assert notes(found) == left_out


def test_visits_of_studies_that_number_them():
    found = images("a@M12", "a@M00", "b@M06")
    assert names(choose_visits(found, "first")) == ["a@M00", "b@M06"]
    dates = images("a@2019-12-01", "a@2020-01-02")
    assert names(choose_visits(dates, "last")) == ["a@2020-01-02"]


@pytest.mark.parametrize("labels", [("baseline", "followup"), ("", "2"), ("bl", "m12"), ("A", "B")])
def test_visits_without_an_order_must_be_named(labels):
    found = images(*(f"a@{label}" for label in labels), "b@other")
    with pytest.raises(
        UsageError, match=r"differ in their numbers only.*--visit baseline,followup"
    ):
        choose_visits(found, "first")
    if all(labels):
        assert names(choose_visits(found, ",".join((*labels, "other")))) == [
            f"a@{labels[0]}", "b@other"]  # fmt: skip


def test_people_with_one_visit_need_no_order():
    found = images("a@baseline", "b@followup")
    assert choose_visits(found, "first") is found


def test_a_visit_that_nobody_has():
    with pytest.raises(
        UsageError, match=r"no image is of visit 4\. .*Visits there: 3 \(2\), 2 \(1\)"
    ):
        choose_visits(THREE, "4")


def test_latents_of_visits_are_averaged():
    values = np.array([[1, np.nan, np.nan], [3, 5, np.nan], [7, 8, 9], [-1, 0, 1.0]])
    latents = Latents(values, ("b@2", "b@3", "a@2", "x@y@2"), ("z0", "z1", "z2"), source={"e": 1})
    mean = average_visits(latents)
    assert mean.sample_ids == ("b", "a", "x@y")
    np.testing.assert_array_equal(mean.values, [[2, 5, np.nan], [7, 8, 9], [-1, 0, 1]])
    assert mean.source == {"e": 1, "visits": "average", "people_by_visits": {"1": 2, "2": 1}}


def test_averaging_equals_pandas():
    rng = np.random.default_rng(5)
    found = images(*sorted({f"p{rng.integers(40)}@{rng.integers(9)}" for _ in range(150)}))
    values = rng.standard_normal((len(found), 4))
    values[rng.random(values.shape) < 0.2] = np.nan
    mean = average_visits(Latents(values, found.row_ids, tuple("abcd")))
    expected = pd.DataFrame(values).groupby(list(found.sample_ids), sort=False).mean()
    assert mean.sample_ids == tuple(expected.index)
    np.testing.assert_allclose(mean.values, expected.to_numpy(), rtol=1e-12, atol=1e-14)


def test_rows_that_do_not_say_which_visit():
    latents = Latents(np.zeros((2, 1)), ("a", "b@2"), ("z",))
    with pytest.raises(InconsistentError, match="1 of 2 rows are not named IID@visit"):
        average_visits(latents)
