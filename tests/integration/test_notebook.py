"""In a notebook: a real kernel, driven by the protocol that a notebook speaks."""

from __future__ import annotations

from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

SETUP = """
import asyncio
from apxm import CapabilityRecord, Runtime, flow, step

@flow
def slow(items):
    each = step.map(items, name="<each>")
    with each as item:
        step.yield_(step.inv("nap", item=item, name="nap"), name="out")
    return each

async def nap(item: int) -> int:
    await asyncio.sleep(0.05)
    return item * 2

runtime = Runtime()
runtime.capability_system().register("nap", CapabilityRecord("Waits.", nap, effect="pure"))
"""


class Kernel:
    """A Python kernel and what it says to a front end."""

    def __init__(self, folder):
        self.manager = KernelManager()
        self.manager.start_kernel(cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code):
        """The messages of a cell, until it is done; raises what it raised."""
        asked, found = self.client.execute(code), []
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "error":
                raise AssertionError("\n".join(content["traceback"]))
            if kind == "status" and content["execution_state"] == "idle":
                return found
            found.append((kind, content))

    def updates(self, display_id, until):
        """Every later picture of a display, up to the one that contains `until`."""
        found = []
        while not found or until not in found[-1]:
            message = self.client.get_iopub_msg(timeout=30)
            if message["msg_type"] == "update_display_data" and message["content"]["transient"]["display_id"] == display_id:
                found.append(message["content"]["data"]["text/html"])
        return found

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path):
    made = Kernel(tmp_path)
    made.run(f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})")
    made.run(SETUP)
    yield made
    made.close()


def test_a_handle_shows_a_run_until_it_ends(kernel):
    said = kernel.run("handle = runtime.start(slow, items=list(range(20))); handle")
    ((_, first),) = [(kind, content) for kind, content in said if kind == "display_data"]
    assert "&lt;each&gt;" in first["data"]["text/html"]
    pictures = kernel.updates(first["transient"]["display_id"], "done · 2 of 2 nodes")
    assert "20 of 20" in pictures[-1]
    assert "20 done" in pictures[-1]
    assert all("<each>" not in picture for picture in pictures)
    ((_, value),) = [(kind, content) for kind, content in kernel.run("handle.result().value[-1]") if kind == "execute_result"]
    assert value["data"]["text/plain"] == "38"


def test_a_cell_can_await_a_run(kernel):
    said = kernel.run("(await runtime.execute_async(slow, items=[1, 2])).value")
    assert [content["data"]["text/plain"] for kind, content in said if kind == "execute_result"] == ["[2, 4]"]


@pytest.mark.parametrize("shown", ["slow", "slow_dag", "result"])
def test_a_graph_a_dag_and_a_result_are_pictures(kernel, shown):
    kernel.run("from apxm import compile\nslow_dag = compile(slow).into_dag(); result = runtime.start(slow, items=[1]).result()")
    ((_, content),) = [(kind, content) for kind, content in kernel.run(shown) if kind == "execute_result"]
    picture = content["data"]["text/html"]
    assert "<script" not in picture
    assert "<each>" not in picture
    assert "each" in picture
