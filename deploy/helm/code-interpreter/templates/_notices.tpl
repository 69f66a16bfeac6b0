{{/* What the operator should know about the values given, one a line. NOTES.txt prints them. */}}
{{- define "code-interpreter.notices" -}}
{{- include "code-interpreter.ineffective" . }}
{{- include "code-interpreter.capacityNotices" . }}
{{- include "code-interpreter.choiceNotices" . }}
{{- end }}

{{/* Values that are accepted because installations carry them. */}}
{{- define "code-interpreter.ineffective" -}}
{{- $reasons := dict
  "codeInterpreter.cpuTimeLimitSec" "it never was CPU seconds on Kubernetes; executor.resources.limits.cpu limits the CPU"
  "codeInterpreter.kubernetesExecutor.netAdminLockdown" "no container gets NET_ADMIN; egress is proved from inside each pod instead (egressCheck)"
  "codeInterpreter.kubernetesExecutor.podResources.limits.memory" "a pod's memory limit is computed from codeInterpreter.memoryLimitMb and the sizes of its folders"
  "codeInterpreter.kubernetesExecutor.podResources.requests.memory" "pods request what they are limited to, so that none is evicted for using it"
  "capacity.retryAfterSec" "Retry-After is measured"
  "capacity.capacityRetryAfterSec" "Retry-After is measured"
}}
{{- range $path, $reason := $reasons }}
  {{- if include "code-interpreter.value" (list $.Values $path) | fromJson }}
* {{ $path }} has no effect: {{ $reason }}.
  {{- end }}
{{- end }}
{{- if and .Values.executorResourceQuota.limitRange.enabled (not .Values.executorResourceQuota.enabled) }}
* executorResourceQuota.limitRange has no effect: executorResourceQuota.enabled is false.
{{- end }}
{{- end }}

{{- define "code-interpreter.capacityNotices" -}}
{{- $settings := include "code-interpreter.settings" . | fromJson }}
{{- $atOnce := mul (int64 $settings.maxInFlight) (int64 .Values.replicaCount) }}
{{- $pods := add $atOnce (mul (int64 .Values.pool.size) (int64 .Values.replicaCount)) }}
{{- $files := add (include "code-interpreter.mebibytes" $settings.workspaceSizeLimit | int64) (include "code-interpreter.mebibytes" $settings.tmpSizeLimit | int64) }}
{{- $each := add (int64 .Values.codeInterpreter.memoryLimitMb) $files 323 }}
{{- $sessions := include "code-interpreter.maxSessions" . | int64 }}
{{- $session := include "code-interpreter.sessionMebibytes" . | int64 }}
{{- if .Values.executorResourceQuota.enabled }}
  {{- $hard := .Values.executorResourceQuota.hard }}
  {{- if and $hard.pods (gt $pods (int64 $hard.pods)) }}
* executorResourceQuota.hard.pods is {{ int64 $hard.pods }}: with {{ $atOnce }} programs running, the {{ mul (int64 .Values.pool.size) (int64 .Values.replicaCount) }} warm pods that should wait beside them do not all fit.
  {{- end }}
  {{- range $name := list "requests.memory" "limits.memory" }}
    {{- with get $hard $name }}
      {{- $fit := div (include "code-interpreter.mebibytes" . | int64) $each }}
      {{- if lt $fit $pods }}
* executorResourceQuota.hard.{{ $name }} is {{ . }}, room for about {{ $fit }} pods of {{ $each }} MiB; {{ $pods }} may be needed. The service waits for room and says so in /ready.
      {{- end }}
      {{- if and $sessions (lt (include "code-interpreter.mebibytes" . | int64) (add (mul $pods $each) (mul $sessions $session))) }}
* executorResourceQuota.hard.{{ $name }} is {{ . }}, too little for {{ $sessions }} sessions of {{ $session }} MiB (sessions.max) beside {{ $pods }} pods for programs: while many are open, the pool waits for room.
      {{- end }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "code-interpreter.choiceNotices" -}}
{{- if not .Values.keys.existingSecret }}
* There are no keys (keys.existingSecret): whoever reaches the port can run programs and read every stored file.
{{- end }}
{{- $settings := include "code-interpreter.settings" . | fromJson }}
{{- if and .Values.sessions.max (eq (include "code-interpreter.maxSessions" .) "0") }}
* No sessions: with executor.runtimeClassName {{ $settings.runtimeClassName }}, which has no Landlock, each would live on the one replica that made it, and replicaCount is {{ int64 .Values.replicaCount }}. One replica has them.
{{- end }}
{{- $files := .Values.files }}
{{- $mounted := false }}
{{- range .Values.volumeMounts }}{{ if eq (trimSuffix "/" .mountPath) (trimSuffix "/" $files.directory) }}{{ $mounted = true }}{{ end }}{{ end }}
{{- $inPod := not (or $files.objectStore.url $files.persistence.enabled $mounted) }}
{{- if and $inPod .Values.fileStorage.shared }}
* fileStorage.shared is true and nothing is mounted at {{ $files.directory }}: unless FILE_STORAGE_DIR names something shared, a replica does not see the files of another.
{{- else if $inPod }}
* Files lie in the service's pod: a roll-out or a drained node loses them. files.objectStore or files.persistence keeps them.
{{- end }}
{{- if include "code-interpreter.oneWriter" . }}
* The volume of files has one writer: a roll-out ends the old pod before the new one starts, and requests fail meanwhile. ReadWriteMany or files.objectStore avoids it.
{{- end }}
{{- if eq (include "code-interpreter.egressMode" .) "off" }}
* egressCheck.mode is off: nothing proves that programs reach no network. /health says so.
{{- end }}
{{- if and .Values.networkPolicy.enabled (has "Egress" .Values.networkPolicy.policyTypes) (le (len .Values.networkPolicy.egress) 1) }}
* networkPolicy limits whom the service may call: it needs a rule for the API server's address in networkPolicy.egress.
{{- end }}
{{- if and .Values.networkPolicy.enabled (has "Ingress" .Values.networkPolicy.policyTypes) (not .Values.networkPolicy.ingress) }}
* networkPolicy.ingress is empty: no pod may call the service, helm test's neither.
{{- end }}
{{- if and .Values.serviceAccount.create (not .Values.serviceAccount.automount) }}
* serviceAccount.automount is false: the service needs a token that you mount.
{{- end }}
{{- if not .Values.rbac.create }}
* rbac.create is false: the service account {{ include "code-interpreter.serviceAccountName" . }} needs the rights of templates/executor/role.yaml in {{ $settings.namespace }}.
{{- end }}
{{- if lt (int64 (include "code-interpreter.graceSeconds" .)) (divf .Values.codeInterpreter.maxExecTimeoutMs 1000 | ceil | int64) }}
* shutdown.graceSeconds is {{ include "code-interpreter.graceSeconds" . }}, less than the longest run: a roll-out ends programs that still run.
{{- end }}
{{- if eq (toString (dig "httpGet" "path" "" .Values.readinessProbe)) "/health" }}
* readinessProbe asks /health: requests come before a sandbox is warm, and during shutdown. /ready is the path for it.
{{- end }}
{{- end }}

{{/* "true" where two pods of the service cannot have the volume of files at once. */}}
{{- define "code-interpreter.oneWriter" -}}
{{- with .Values.files.persistence }}{{ and .enabled (not (has "ReadWriteMany" .accessModes)) | ternary "true" "" }}{{ end }}
{{- end }}

{{/* YAML reads a bare on or off as true or false. */}}
{{- define "code-interpreter.egressMode" -}}
{{- get (dict "true" "on" "false" "off") (toString .Values.egressCheck.mode) | default .Values.egressCheck.mode }}
{{- end }}
