# syntax=docker/dockerfile:1
# docker build --target cpu -t ridgeline .      docker build --target cuda -t ridgeline:cuda .
# docker run --rm -p 8000:8000 -v "$PWD/bundles:/bundles:ro" ridgeline /bundles/all-MiniLM-L6-v2
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY estimate estimate
COPY export export
COPY kernels kernels
COPY server server
COPY bench bench
RUN python -m venv /opt/ridgeline

FROM build AS build-cpu
RUN /opt/ridgeline/bin/pip install --no-cache-dir --constraint constraints.txt '.[cpu]'

FROM build AS build-cuda
RUN /opt/ridgeline/bin/pip install --no-cache-dir --constraint constraints.txt '.[gpu,kernels]'

FROM python:${PYTHON}-slim AS runtime
ENV PATH=/opt/ridgeline/bin:$PATH RIDGELINE_HOST=0.0.0.0 RIDGELINE_PORT=8000
RUN useradd --create-home --uid 10001 ridgeline
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-m", "ridgeline_server.probe"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["ridgeline", "serve"]

FROM runtime AS cpu
COPY --from=build-cpu /opt/ridgeline /opt/ridgeline

# The NVIDIA container toolkit mounts the driver; the CUDA libraries come with the wheels. Triton needs a C compiler.
FROM runtime AS cuda
USER 0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
USER 10001
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/ridgeline /opt/ridgeline
