{{- define "unclip.labels" -}}
app.kubernetes.io/name: unclip
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "unclip.selector" -}}
app.kubernetes.io/name: unclip
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "unclip.image" -}}
{{ printf "%s-%s:%s" .root.Values.image.repository .kind (.root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end }}

{{- /* What every pod must have under restricted pod security. */ -}}
{{- define "unclip.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "unclip.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Every stage of every model that is deployed or called, as JSON: [{model, stage, application, component, values,
bundle}]. The first model's applications have the stages' own names. */ -}}
{{- define "unclip.stages" -}}
{{- $found := list }}
{{- range $stage, $values := .Values.stages }}
{{- $found = append $found (dict "model" $.Values.model "stage" $stage "application" $stage "component" $stage "values" $values "bundle" $.Values.bundle) }}
{{- end }}
{{- $names := dict (.Values.model | replace "." "-" | replace "_" "-") true }}
{{- range $model, $own := .Values.models }}
{{- $plain := $model | replace "." "-" | replace "_" "-" }}
{{- if or (hasKey $names $plain) (eq $model "dall-e-2") }}{{ fail (printf "models: %s: another model has that name, or one too like it" $model) }}{{ end }}
{{- $_ := set $names $plain true }}
{{- $bundle := mergeOverwrite (deepCopy $.Values.bundle) (deepCopy ($own.bundle | default dict)) }}
{{- range $stage, $values := $.Values.stages }}
{{- if not (has $stage ($own.shared | default list)) }}
{{- $values := mergeOverwrite (deepCopy $values) (deepCopy (index ($own.stages | default dict) $stage | default dict)) }}
{{- /* The size is the first model's; 0 is what this one is made for. */}}
{{- if eq $stage "decoder" }}
{{- $args := dig "decoder" "args" dict ($own.stages | default dict) }}
{{- $_ := set $values.args "size" ($args.size | default 0) }}
{{- end }}
{{- $name := printf "%s-%s" $model $stage }}
{{- $found = append $found (dict "model" $model "stage" $stage "application" $name "component" $name "values" $values "bundle" $bundle) }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $found }}
{{- end }}

{{- /* KubeRay makes nothing of a RayService whose name is longer. */ -}}
{{- define "unclip.stageName" -}}
{{- $name := printf "%s-%s" .root.Release.Name (.application | replace "_" "-" | replace "." "-") }}
{{- if gt (len $name) 47 }}{{ fail (printf "%s has more than 47 characters; shorten the release's name or the model's" $name) }}{{ end }}
{{- $name }}
{{- end }}

{{- /* Where the gateway finds a stage. */ -}}
{{- define "unclip.stageAddress" -}}
{{- .values.address | default (printf "%s-serve:%s" (include "unclip.stageName" .) (include "unclip.stagePort" .root)) }}
{{- end }}

{{- define "unclip.bundlePath" -}}
{{ eq .bundle.source "image" | ternary "models" .bundle.path }}
{{- end }}

{{- /* Volumes and mounts of the model, for pods that run replicas. */ -}}
{{- define "unclip.bundleVolume" -}}
{{- if eq .bundle.source "claim" }}
- name: bundle
  persistentVolumeClaim: {claimName: {{ required "bundle.claim.name" .bundle.claim.name }}, readOnly: true}
{{- else if eq .bundle.source "objectStore" }}
- name: bundle
  emptyDir: {sizeLimit: {{ .bundle.objectStore.sizeLimit }}}
{{- end }}
{{- end }}

{{- define "unclip.bundleMount" -}}
{{- if ne .bundle.source "image" }}
- {name: bundle, mountPath: {{ .bundle.path }}, readOnly: true}
{{- end }}
{{- end }}

{{- /* The Serve config of a stage: deploy/serve/STAGE.yaml with the values' changes. */ -}}
{{- define "unclip.serveConfig" -}}
{{- $config := .root.Files.Get (printf "serve/%s.yaml" .stage) | fromYaml }}
{{- $_ := set $config.http_options "host" "0.0.0.0" }}
{{- $application := index $config.applications 0 }}
{{- $_ := set $application "name" .application }}
{{- $_ := set $application "route_prefix" (printf "/%s" .application) }}
{{- $deployment := index $application.deployments 0 }}
{{- $args := mergeOverwrite $application.args (deepCopy .values.args) }}
{{- $bundle := include "unclip.bundlePath" . }}
{{- if hasKey $args "clip" }}{{- $_ := set $args.clip "bundle" $bundle }}{{- else }}{{- $_ := set $args "bundle" $bundle }}{{- end }}
{{- /* Ray lets in what the engine takes, so that the engine's queue is the one that fills. */ -}}
{{- with $args.engine }}
{{- $limit := add (int .max_running) (int .max_waiting) 8 }}
{{- $_ := set $deployment "max_ongoing_requests" $limit }}
{{- $_ := set $deployment "max_queued_requests" $limit }}
{{- end }}
{{- $scaling := $deployment.autoscaling_config }}
{{- $_ := set $scaling "min_replicas" (int .values.replicas.min) }}
{{- $_ := set $scaling "max_replicas" (int .values.replicas.max) }}
{{- if hasKey $scaling "policy" }}{{- $_ := set $scaling.policy.policy_kwargs "target" .values.target }}{{- end }}
{{- $_ := set $deployment "ray_actor_options" (dict "num_cpus" .values.cpus "num_gpus" .values.gpus) }}
{{- $_ := set $config "logging_config" (dict "encoding" "JSON" "log_level" "INFO" "enable_access_log" false) }}
{{- toYaml $config }}
{{- end }}

{{- define "unclip.stageEnvironment" -}}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
# Larger than any picture that a request may carry, smaller than what would fill a proxy's memory.
- {name: RAY_SERVE_GRPC_MAX_MESSAGE_SIZE, value: "67108864"}
- {name: RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S, value: "120"}
{{- include "unclip.tracingEnvironment" .root }}
{{- end }}

{{- /* Where spans go; the SDK reads these variables itself. */ -}}
{{- define "unclip.tracingEnvironment" -}}
{{- with .Values.tracing.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- range $key, $value := .Values.tracing.environment }}
- {name: {{ $key }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- /* A probe of Ray processes: every URL has to answer. KubeRay's own would need wget in the image. */ -}}
{{- define "unclip.rayProbe" -}}
exec:
  command:
    - python
    - -c
    - |
      import sys, urllib.request
      for url in sys.argv[1:]:
          urllib.request.urlopen(url, timeout=4)
    {{- range . }}
    - {{ . }}
    {{- end }}
{{- end }}
