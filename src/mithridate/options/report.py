"""Options of the report."""

from typing import Annotated

from pydantic import Field

from mithridate.options.base import Strict

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]


class ReportOptions(Strict):
    beside: dict[Name, str] = {}
    """other finished runs whose tables and pictures over all are shown beside this run's: a name, such as that of the data set, and the folder of results or of a record in docs/results; of two runs the report switches from one to the other"""
