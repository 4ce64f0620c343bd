"""A whole history in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbscast.terminal.overview import tell_courses, tell_subjobs
from pbscast.terminal.story import tell_course, tell_hand_over

if TYPE_CHECKING:
    from datetime import datetime

    from pbscast.story import Story
    from pbscast.terminal.paper import Paper
    from pbscast.timeline import Course


def tell(
    story: Story,
    paper: Paper,
    now: datetime,
    *,
    newest_first: bool = False,
    in_full: bool = False,
) -> None:
    """Print the jobs asked for by id step by step, in full event by event; others as a bar each."""
    if not story.ids:
        courses = story.courses
        tell_courses(courses[::-1] if newest_first else courses, paper, now)
        return
    for number, job_id in enumerate(story.ids):
        courses = [course for course in story.told if course.key.id == job_id]
        if number:
            paper.put("")
        ordered = courses[::-1] if newest_first else courses
        _tell_job(story, ordered, paper, now, newest_first=newest_first, in_full=in_full)
        if subjobs := story.subjobs(job_id):
            paper.put("")
            tell_subjobs(subjobs, paper, now)


def _tell_job(
    story: Story,
    courses: list[Course],
    paper: Paper,
    now: datetime,
    *,
    newest_first: bool,
    in_full: bool,
) -> None:
    after: Course | None = None
    for course in courses:
        if after is not None:
            arrival = story.arrival(after if newest_first else course)
            if arrival is None:
                paper.put("")
            else:
                tell_hand_over(arrival, paper)
        tell_course(course, paper, now, newest_first=newest_first, in_full=in_full)
        after = course
