# aether_deploy with TensorRT-RTX; CUDA's libraries come with torch, the driver with the host (--gpus all).
FROM python:3.12-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY aether_deploy aether_deploy
COPY neosr neosr
COPY export_configs export_configs
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "$(ls /wheels/*.whl)[tensorrt-rtx]" \
    && rm -rf /wheels /tmp/constraints.txt \
    && useradd --create-home --uid 1000 user
USER 1000
WORKDIR /data
ENTRYPOINT ["aether-deploy"]
CMD ["--help"]
