"""Which models a server offers."""

import asyncio
import time

import openai

from engine.base.api_keys import redacted
from engine.base.errors import EndpointError
from engine.config.endpoint import EndpointConfig
from engine.teachers.endpoint.failure import Failure
from engine.teachers.endpoint.reply import failure
from engine.teachers.endpoint.transport import opened, own_arguments

LIST_S = 30.0
"""Seconds for the names of a server's models."""


def list_models(url: str, key: str | None, settings: EndpointConfig) -> list[str]:
    """Names of the models that a server offers, sorted.

    Raises:
        EndpointError: it cannot be reached, or does not say.
    """
    try:
        return asyncio.run(_listed(url, key, settings))
    except TimeoutError:
        problem = Failure("fault", f"no whole list of models within {LIST_S:g} s")
    except openai.APIError as error:
        problem = failure(error, time.time())
    except Failure as found:
        problem = found
    except (AttributeError, TypeError, ValueError):
        problem = Failure("fault", "its reply to GET /models is not a list of models")
    raise EndpointError(
        redacted(problem.message, key),
        problem.remedy or "check `base_url` (it usually ends with /v1), and that the server runs there",
    )


async def _listed(url: str, key: str | None, settings: EndpointConfig) -> list[str]:
    async with (
        asyncio.timeout(LIST_S),
        openai.AsyncOpenAI(
            base_url=url, http_client=opened([url], key, settings), **own_arguments(key)
        ) as client,
    ):
        return sorted(model.id for model in (await client.models.list()).data)
