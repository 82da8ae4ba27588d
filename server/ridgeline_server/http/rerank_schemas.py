"""The OpenAPI components of `/v1/rerank` and `/v2/rerank`."""

from __future__ import annotations

from ridgeline_server.http.schemas import COST, TEXT, Schema

_COUNT: Schema = {"type": "integer", "minimum": 0}
_POSITIVE: Schema = {"type": ["integer", "null"], "minimum": 1}
_DOCUMENT: Schema = {
    "anyOf": [TEXT, {"type": "object", "required": ["text"], "properties": {"text": TEXT}}],
    "description": "A text, or an object with a text, or with the fields that `rank_fields` names.",
}

RERANK_SCHEMAS: Schema = {
    "RerankRequest": {
        "type": "object",
        "required": ["query", "documents"],
        "properties": {
            "model": {
                "type": ["string", "null"],
                "description": "A name of GET /v1/models. Absent: the first that ranks.",
            },
            "query": TEXT,
            "documents": {"type": "array", "items": _DOCUMENT, "minItems": 1},
            "top_n": {**_POSITIVE, "description": "How many results, the best first; all by default."},
            "return_documents": {
                "type": ["boolean", "null"],
                "description": "Whether results hold their documents. Absent: /v1/rerank does, as Jina's, and "
                "/v2/rerank does not, as Cohere's.",
            },
            "max_tokens_per_doc": {
                **_POSITIVE,
                "description": "Read no more of each document. Absent: what the model takes.",
            },
            "rank_fields": {
                "type": ["array", "null"],
                "items": {"type": "string", "minLength": 1},
                "minItems": 1,
                "description": "Fields of documents that are read, in this order; any names that the documents have. "
                "Several are read as lines `name: text`.",
            },
        },
        "description": "Unknown fields are ignored.",
        "example": {
            "model": "ms-marco-MiniLM-L6-v2",
            "query": "What makes bread rise?",
            "documents": ["Bread is sold here.", "Yeast lets dough rise."],
            "top_n": 1,
        },
    },
    "RerankResponse": {
        "type": "object",
        "required": ["id", "model", "results", "usage", "meta"],
        "properties": {
            "id": {"type": "string"},
            "model": {"type": "string"},
            "results": {
                "type": "array",
                "description": "The best first.",
                "items": {
                    "type": "object",
                    "required": ["index", "relevance_score"],
                    "properties": {
                        "index": {**_COUNT, "description": "Of the document in what was sent."},
                        "relevance_score": {"type": "number", "minimum": 0, "maximum": 1},
                        "document": {"type": "object", "description": "As sent; of a text, an object with it."},
                    },
                },
            },
            "usage": {
                "type": "object",
                "required": ["prompt_tokens", "total_tokens"],
                "properties": {"prompt_tokens": _COUNT, "total_tokens": _COUNT},
            },
            "meta": {
                "type": "object",
                "required": ["api_version", "billed_units", "tokens"],
                "properties": {
                    "api_version": {
                        "type": "object",
                        "required": ["version"],
                        "properties": {"version": {"enum": ["1", "2"]}},
                    },
                    "billed_units": {
                        "type": "object",
                        "required": ["search_units"],
                        "properties": {"search_units": {**_COUNT, "description": "One for each 100 documents begun."}},
                    },
                    "tokens": {
                        "type": "object",
                        "required": ["input_tokens", "output_tokens"],
                        "properties": {"input_tokens": _COUNT, "output_tokens": _COUNT},
                    },
                },
            },
            "ridgeline": COST,
        },
        "example": {
            "id": "0b6f0b62-4f0a-4c1e-9f6d-5b1f5f8f3c11",
            "model": "ms-marco-MiniLM-L6-v2",
            "results": [{"index": 1, "relevance_score": 0.93, "document": {"text": "Yeast lets dough rise."}}],
            "usage": {"prompt_tokens": 31, "total_tokens": 31},
            "meta": {
                "api_version": {"version": "1"},
                "billed_units": {"search_units": 1},
                "tokens": {"input_tokens": 31, "output_tokens": 0},
            },
        },
    },
    "RerankError": {
        "type": "object",
        "required": ["message", "detail"],
        "properties": {
            "message": {"type": "string", "description": "Where clients of Cohere look."},
            "detail": {"type": "string", "description": "The same, where clients of Jina look."},
        },
    },
}
