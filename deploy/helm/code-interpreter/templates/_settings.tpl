{{/*
Settings with more than one spelling: ours first, then those of Onyx's chart. One that is set wins over the default;
two that differ stop the render, because one of them would be ignored.
*/}}
{{- define "code-interpreter.spellings" -}}
maxInFlight: {default: 16, paths: [pool.maxInFlight, capacity.maxConcurrentExecutions]}
namespace:
  default: {{ .Release.Namespace }}
  paths: [executor.namespace.name, codeInterpreter.kubernetesExecutor.namespace, codeInterpreter.kubernetes.namespace]
image: {paths: [codeInterpreter.kubernetesExecutor.image, codeInterpreter.kubernetes.image]}
imagePullPolicy: {default: IfNotPresent, paths: [executor.image.pullPolicy, codeInterpreter.kubernetesExecutor.imagePullPolicy]}
serviceAccountName: {paths: [executor.serviceAccountName, codeInterpreter.kubernetesExecutor.serviceAccount]}
readyTimeoutSeconds: {default: 30, paths: [executor.readyTimeoutSeconds, codeInterpreter.kubernetesExecutor.readyTimeoutSec]}
setOwnerReferences: {default: true, paths: [executor.setOwnerReferences, codeInterpreter.kubernetesExecutor.setOwnerReferences]}
workspaceSizeLimit: {default: 100Mi, paths: [executor.workspaceSizeLimit, codeInterpreter.kubernetesExecutor.workspaceSizeLimit]}
tmpSizeLimit: {default: 64Mi, paths: [executor.tmpSizeLimit, codeInterpreter.kubernetesExecutor.tmpSizeLimit]}
{{- range $name, $default := dict "mode" "fixed" "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532 "readOnlyRootFilesystem" true }}
{{ $name }}: {default: {{ $default }}, paths: [executor.securityContext.{{ $name }}, codeInterpreter.kubernetesExecutor.securityContext.{{ $name }}]}
{{- end }}
{{- range $path, $default := dict "limits.cpu" "5" "limits.ephemeral-storage" "128Mi" "requests.cpu" "100m" "requests.ephemeral-storage" "16Mi" }}
{{ $path }}: {default: {{ quote $default }}, paths: [executor.resources.{{ $path }}, codeInterpreter.kubernetesExecutor.podResources.{{ $path }}]}
{{- end }}
{{- range $name := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" "labels" "annotations" }}
{{ $name }}: {paths: [executor.{{ $name }}, codeInterpreter.kubernetesExecutor.pod.{{ $name }}]}
{{- end }}
{{- end }}

{{/* The values of these settings, as a JSON object. A setting without a value and a default is not in it. */}}
{{- define "code-interpreter.settings" -}}
{{- $settings := dict }}
{{- range $name, $spelling := include "code-interpreter.spellings" . | fromYaml }}
  {{- $setBy := "" }}
  {{- range $path := $spelling.paths }}
    {{- $value := include "code-interpreter.value" (list $.Values $path) | fromJson }}
    {{- if $value }}
      {{- if $setBy }}{{ include "code-interpreter.agree" (list $setBy (get $settings $name) $path $value.found) }}{{ end }}
      {{- $setBy = $setBy | default $path }}
      {{- $_ := hasKey $settings $name | ternary $settings (set $settings $name $value.found) }}
    {{- end }}
  {{- end }}
  {{- if and (not $setBy) (hasKey $spelling "default") }}{{ $_ := set $settings $name $spelling.default }}{{ end }}
{{- end }}
{{- $_ := set $settings "image" (include "code-interpreter.executorImage" (list . (get $settings "image"))) }}
{{- toJson $settings }}
{{- end }}

{{/* (values, dotted path) to {"found": value}, or {} where nothing is set. */}}
{{- define "code-interpreter.value" -}}
{{- $value := first . }}
{{- range splitList "." (last .) }}
  {{- if kindIs "map" $value }}{{ $value = index $value . }}{{ end }}
{{- end }}
{{- $unset := or (kindIs "invalid" $value) (has (toJson $value) (list `""` "{}" "[]")) }}
{{- $unset | ternary dict (dict "found" $value) | toJson }}
{{- end }}

{{/* (path, value, path, value): one setting, so one value. A number and the same number as text are equal. */}}
{{- define "code-interpreter.agree" -}}
{{- $one := index . 1 | toJson | trimAll `"` }}
{{- $other := index . 3 | toJson | trimAll `"` }}
{{- if ne $one $other }}
{{- fail (printf "%s is %s and %s is %s: they are one setting, give one of them." (index . 0) $one (index . 2) $other) }}
{{- end }}
{{- end }}

{{/* (root, reference in Onyx's spelling or ""). */}}
{{- define "code-interpreter.executorImage" -}}
{{- $root := first . }}
{{- $image := $root.Values.executor.image }}
{{- $repository := $image.repository | default "code-interpreter/executor" }}
{{- $parts := dict "repository" $repository "tag" $image.tag "digest" $image.digest }}
{{- $ours := include "code-interpreter.image" (dict "image" $parts "appVersion" $root.Chart.AppVersion) }}
{{- if and (last .) (or $image.repository $image.tag $image.digest) }}
{{- include "code-interpreter.agree" (list "executor.image" $ours "codeInterpreter.kubernetesExecutor.image" (last .)) }}
{{- end }}
{{- last . | default $ours }}
{{- end }}

{{/* limits and requests of executor pods. A null in either spelling takes the default away: no limit, no request. */}}
{{- define "code-interpreter.executorResources" -}}
{{- $settings := include "code-interpreter.settings" . | fromJson }}
{{- $onyx := .Values.codeInterpreter.kubernetesExecutor.podResources }}
{{- $resources := dict }}
{{- range $side := list "limits" "requests" }}
  {{- $ours := get $.Values.executor.resources $side | default dict }}
  {{- $theirs := get $onyx $side | default dict }}
  {{- $given := dict }}
  {{- range $key := list "cpu" "ephemeral-storage" }}
    {{- $removed := or (not (hasKey $ours $key)) (and (hasKey $theirs $key) (kindIs "invalid" (get $theirs $key))) }}
    {{- if not $removed }}{{ $_ := set $given $key (get $settings (printf "%s.%s" $side $key) | toString) }}{{ end }}
  {{- end }}
  {{- $_ := set $resources $side $given }}
{{- end }}
{{- toJson $resources }}
{{- end }}

{{/* Seconds that running programs get after SIGTERM: the longest run, the wait before it and the answer after it. */}}
{{- define "code-interpreter.graceSeconds" -}}
{{- $longest := divf .Values.codeInterpreter.maxExecTimeoutMs 1000 | ceil }}
{{- $beside := addf .Values.capacity.queueTimeoutSec 2 | ceil | int64 | max 10 }}
{{- kindIs "invalid" .Values.shutdown.graceSeconds | ternary (add $longest $beside) .Values.shutdown.graceSeconds | int64 }}
{{- end }}

{{/* "true" where the sandboxes' kernel has no Landlock. */}}
{{- define "code-interpreter.lacksLandlock" -}}
{{- $settings := include "code-interpreter.settings" . | fromJson }}
{{- regexMatch "gvisor|runsc" (lower ($settings.runtimeClassName | default "")) | ternary "true" "" }}
{{- end }}

{{/* Without Landlock a session lives on the replica that made it, and no client is bound to one. */}}
{{- define "code-interpreter.maxSessions" -}}
{{- $alone := and (gt (int64 .Values.replicaCount) 1) (include "code-interpreter.lacksLandlock" .) }}
{{- $alone | empty | ternary .Values.sessions.max 0 | int64 }}
{{- end }}

{{/* Of a session's pod, as pool/kube/manifest.py counts it: /dev/shm, 100 000 inodes in each of three folders, the runtime. */}}
{{- define "code-interpreter.sessionMebibytes" -}}
{{- $settings := include "code-interpreter.settings" . | fromJson }}
{{- $workspace := include "code-interpreter.mebibytes" .Values.sessions.workspaceSizeLimit | int64 }}
{{- $tmp := include "code-interpreter.mebibytes" $settings.tmpSizeLimit | int64 }}
{{- add (int64 .Values.codeInterpreter.memoryLimitMb) $workspace $tmp 64 293 200 }}
{{- end }}

{{/* Of the Secret by which replicas are let into each other's sessions. */}}
{{- define "code-interpreter.sessionSecret" -}}
{{- .Values.sessions.existingSecret | default (printf "%s-sessions" (include "code-interpreter.fullname" .)) }}
{{- end }}

{{/* Variables of the service (broker/settings.py), beside those that are read from the pod. */}}
{{- define "code-interpreter.environment" -}}
{{- $settings := include "code-interpreter.settings" . | fromJson }}
EXECUTOR_BACKEND: kubernetes
HOST: {{ quote .Values.codeInterpreter.host }}
PORT: {{ .Values.codeInterpreter.port | int64 | quote }}
LOG_FORMAT: json
LOG_LEVEL: {{ .Values.codeInterpreter.logLevel }}
MAX_EXEC_TIMEOUT_MS: {{ .Values.codeInterpreter.maxExecTimeoutMs | int64 | quote }}
MAX_OUTPUT_BYTES: {{ .Values.codeInterpreter.maxOutputBytes | int64 | quote }}
MEMORY_LIMIT_MB: {{ .Values.codeInterpreter.memoryLimitMb | int64 | quote }}
MAX_CONCURRENT_EXECUTIONS: {{ $settings.maxInFlight | int64 | quote }}
EXECUTION_QUEUE_TIMEOUT_SEC: {{ .Values.capacity.queueTimeoutSec | quote }}
FILE_TTL_SEC: {{ .Values.files.ttlSeconds | int64 | quote }}
MAX_FILE_SIZE_MB: {{ .Values.files.maxFileSizeMb | int64 | quote }}
BROKER_FILE_QUOTA_MB: {{ .Values.files.quotaMb | int64 | quote }}
{{- if .Values.files.objectStore.url }}
BROKER_FILE_STORAGE_URL: {{ quote .Values.files.objectStore.url }}
{{- else }}
{{- /* Below the volume's own folder, which belongs to root and is open to its group. */}}
FILE_STORAGE_DIR: {{ printf "%s/files" (trimSuffix "/" .Values.files.directory) | quote }}
{{- end }}
BROKER_EXECUTOR_FILE: /etc/code-interpreter/executor.json
BROKER_LEAVE_SECONDS: {{ .Values.shutdown.leaveSeconds | int64 | quote }}
BROKER_GRACE_SECONDS: {{ include "code-interpreter.graceSeconds" . | quote }}
BROKER_POOL_SIZE: {{ .Values.pool.size | int64 | quote }}
BROKER_QUEUE: {{ .Values.pool.queue | int64 | quote }}
BROKER_MAX_RUNS_PER_SANDBOX: {{ .Values.pool.maxRunsPerSandbox | int64 | quote }}
BROKER_MAX_SESSIONS: {{ include "code-interpreter.maxSessions" . | quote }}
{{- if .Values.sessions.max }}
BROKER_SESSION_SECRET_FILE: {{ printf "/etc/code-interpreter-sessions/%s" .Values.sessions.secretKey | quote }}
{{- end }}
BROKER_SESSION_WORKSPACE_MB: {{ include "code-interpreter.mebibytes" .Values.sessions.workspaceSizeLimit | quote }}
BROKER_IDEMPOTENCY_TTL_SECONDS: {{ .Values.codeInterpreter.idempotencyTtlSeconds | int64 | quote }}
BROKER_PLAYGROUND: {{ has (toString .Values.codeInterpreter.playground) (list "on" "true") | ternary "on" "off" | quote }}
{{- if .Values.keys.existingSecret }}
BROKER_KEYS_FILE: {{ printf "/etc/code-interpreter-keys/%s" .Values.keys.secretKey | quote }}
BROKER_METRICS_PUBLIC: {{ .Values.metrics.public | quote }}
{{- range $variable, $name := dict "CONCURRENCY" "concurrency" "RUNS_PER_MINUTE" "runsPerMinute" "QUEUE" "queue" "FILE_QUOTA_MB" "fileQuotaMb" "SESSIONS" "sessions" }}
{{- $value := get $.Values.tenants $name }}
{{- if not (kindIs "invalid" $value) }}
BROKER_TENANT_{{ $variable }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}
BROKER_PROCESSES: {{ .Values.executor.processes | int64 | quote }}
BROKER_OPEN_FILES: {{ .Values.executor.openFiles | int64 | quote }}
BROKER_WORKSPACE_MB: {{ include "code-interpreter.mebibytes" $settings.workspaceSizeLimit | quote }}
BROKER_TMP_MB: {{ include "code-interpreter.mebibytes" $settings.tmpSizeLimit | quote }}
{{- with .Values.pool.reuseScope }}
BROKER_REUSE_SCOPE: {{ . }}
{{- end }}
{{- with .Values.pool.startupConcurrency }}
BROKER_STARTUP_CONCURRENCY: {{ . | int64 | quote }}
{{- end }}
{{- with .Values.executor.preload }}
BROKER_PRELOAD: {{ join "," . | quote }}
{{- end }}
{{- with .Values.codeInterpreter.corsOrigins }}
BROKER_CORS_ORIGINS: {{ join "," . | quote }}
{{- end }}
{{- with .Values.codeInterpreter.allowedHosts }}
{{- $name := include "code-interpreter.fullname" $ }}
{{- $inside := printf "%s.%s" $name $.Release.Namespace }}
BROKER_ALLOWED_HOSTS: {{ concat . (list $name $inside (printf "%s.svc" $inside) (printf "%s.svc.cluster.local" $inside)) | join "," | quote }}
{{- end }}
{{- end }}
