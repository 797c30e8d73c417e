"""Reading: cases shared among readers, rounds and how far they agree, comments, previews.

`room` is the way in; `agreeing` compares what the readers of a round answered, `preview` draws the
small picture of a case.
"""

from pipelines.reading.agreeing import Agreeing
from pipelines.reading.preview import Previews
from pipelines.reading.room import Comment, ReadingRoom

__all__ = ["Agreeing", "Comment", "Previews", "ReadingRoom"]
