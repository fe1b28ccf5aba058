# The image of the executors of the release example: its project, and the Python that its commands are written in.
#   docker build -f deploy/release.Dockerfile -t foreplan-release .
FROM foreplan
USER root
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --chown=10001 docs/examples/release-checklist /project
USER 10001
WORKDIR /project
