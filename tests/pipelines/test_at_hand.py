"""What a job's steps hand to one another in memory."""

from dicom.study import Study
from pipelines.inference.house import AtHand


def test_the_last_few_studies_are_held_and_the_oldest_goes() -> None:
    held = AtHand()
    for number in range(5):
        held.keep(f"job {number}", Study(f"2.25.{number}", ()))
    assert [number for number in range(5) if held.get(f"job {number}")] == [2, 3, 4]
    held.keep("job 2", Study("2.25.9", ()))  # a further attempt
    held.keep("job 5", Study("2.25.5", ()))
    assert held.get("job 2") == Study("2.25.9", ())
    assert held.get("job 3") is None
    held.drop("job 2")
    held.drop("job 2")
    assert held.get("job 2") is None
