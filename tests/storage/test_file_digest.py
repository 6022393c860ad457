"""The digest of a file or folder: it tells contents and names apart, and does not depend on the place."""

from kerasft.storage import file_digest


def test_a_digest_is_of_contents_and_names(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "x").write_text("1")
    before = file_digest.compute(tmp_path / "a")
    assert file_digest.compute(tmp_path / "b") == before
    (tmp_path / "b" / "inner" / "x").write_text("2")
    assert file_digest.compute(tmp_path / "b") != before
    (tmp_path / "a" / "inner" / "x").rename(tmp_path / "a" / "inner" / "y")
    assert file_digest.compute(tmp_path / "a") != before
    assert file_digest.compute(tmp_path / "a" / "inner" / "y") != file_digest.compute(tmp_path / "b" / "inner" / "x")
