"""One typed method per operation, for whatever can add a node: a Graph, or the graph that `@flow` is recording."""

from apxm.graph.steps.agents import AgentsSteps
from apxm.graph.steps.control import ControlSteps
from apxm.graph.steps.errors import ErrorsSteps
from apxm.graph.steps.llm import LlmSteps
from apxm.graph.steps.sync import SyncSteps
from apxm.graph.steps.tools import ToolsSteps

__all__ = ["Steps"]


class Steps(SyncSteps, ControlSteps, ErrorsSteps, ToolsSteps, AgentsSteps, LlmSteps):
    """The operations, to be called on a graph. Every method adds a node and gives its Ref."""

    __slots__ = ()
