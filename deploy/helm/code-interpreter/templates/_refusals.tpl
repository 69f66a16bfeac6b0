{{/* Combinations that are unsafe or cannot work. Each stops the render with a sentence. */}}
{{- define "code-interpreter.refusals" -}}
{{- include "code-interpreter.refuseIdentity" . }}
{{- include "code-interpreter.refusePool" . }}
{{- include "code-interpreter.refuseLabels" . }}
{{- include "code-interpreter.refuseFiles" . }}
{{- include "code-interpreter.refuseService" . }}
{{- include "code-interpreter.refuseTenants" . }}
{{- end }}

{{- define "code-interpreter.refuseTenants" -}}
{{- if not .Values.keys.existingSecret }}
  {{- range $name, $value := .Values.tenants }}
    {{- if not (kindIs "invalid" $value) }}
    {{- fail (printf "tenants.%s is %v and keys.existingSecret is not set: without keys nobody is a tenant, and nobody would be held to it." $name $value) }}
    {{- end }}
  {{- end }}
{{- else if has (toString .Values.codeInterpreter.playground) (list "on" "true") }}
{{- fail "codeInterpreter.playground is on and so are keys (keys.existingSecret), which a browser does not send when it opens a page: switch one of them off." }}
{{- else if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.public) }}
{{- fail "metrics.serviceMonitor.enabled is true and so are keys (keys.existingSecret), which a ServiceMonitor does not send: set metrics.public to true, or scrape by hand." }}
{{- end }}
{{- end }}

{{- define "code-interpreter.refuseIdentity" -}}
{{- $settings := include "code-interpreter.settings" . | fromJson }}
{{- $ids := dict "executor.securityContext" $settings "podSecurityContext" .Values.podSecurityContext "securityContext" .Values.securityContext }}
{{- range $path, $context := $ids }}
  {{- if eq (toJson $context.runAsUser) "0" }}
  {{- fail (printf "%s.runAsUser is 0: nothing here runs as root. Leave it out for 65532." $path) }}
  {{- end }}
  {{- if eq (toJson $context.runAsNonRoot) "false" }}
  {{- fail (printf "%s.runAsNonRoot is false: nothing here runs as root." $path) }}
  {{- end }}
{{- end }}
{{- if not $settings.readOnlyRootFilesystem }}
{{- fail "executor.securityContext.readOnlyRootFilesystem is false: what one program writes outside its folders would be there for the next. Only true is possible." }}
{{- end }}
{{- if and (include "code-interpreter.lacksLandlock" .) (eq (toJson .Values.executor.hostUsers) "false") }}
{{- fail (printf "executor.hostUsers is false and executor.runtimeClassName is %s: gVisor refuses pods with a user namespace. Leave hostUsers out." $settings.runtimeClassName) }}
{{- end }}
{{- end }}

{{- define "code-interpreter.refusePool" -}}
{{- $settings := include "code-interpreter.settings" . | fromJson }}
{{- $own := eq $settings.namespace .Release.Namespace }}
{{- if and (gt (int64 .Values.pool.maxRunsPerSandbox) 1) (not .Values.pool.reuseScope) }}
{{- fail (printf "pool.maxRunsPerSandbox is %d and pool.reuseScope is not set: say whose programs may share a pod, any (all callers trust each other) or tenant (those of one tenant)." (int64 .Values.pool.maxRunsPerSandbox)) }}
{{- end }}
{{- if and .Values.executor.namespace.create $own }}
{{- fail (printf "executor.namespace.create is true and the executor namespace is the release's own, %s: name another one in executor.namespace.name." .Release.Namespace) }}
{{- end }}
{{- with .Values.executorResourceQuota }}
  {{- if and .enabled $own (not .allowReleaseNamespace) }}
  {{- fail (printf "executorResourceQuota.enabled is true and executor pods share the release's namespace %s, where it would count every pod: name another one in executor.namespace.name, or accept it with executorResourceQuota.allowReleaseNamespace." $.Release.Namespace) }}
  {{- end }}
  {{- $atOnce := mul (int64 $settings.maxInFlight) (int64 $.Values.replicaCount) }}
  {{- if and .enabled .hard.pods (gt $atOnce (int64 .hard.pods)) }}
  {{- fail (printf "pool.maxInFlight (capacity.maxConcurrentExecutions) is %d and replicaCount is %d: together %d programs at once, above executorResourceQuota.hard.pods, which is %d." (int64 $settings.maxInFlight) (int64 $.Values.replicaCount) $atOnce (int64 .hard.pods)) }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Labels by which workloads, policies and the service itself tell pods apart. */}}
{{- define "code-interpreter.refuseLabels" -}}
{{- $settings := include "code-interpreter.settings" . | fromJson }}
{{- $labels := dict "podLabels" .Values.podLabels "executor.labels" ($settings.labels | default dict) }}
{{- range $path, $given := $labels }}
  {{- range $label, $_ := $given }}
    {{- if or (hasPrefix "code-interpreter/" $label) (has $label (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/managed-by")) }}
    {{- fail (printf "%s sets %s, by which the chart tells the service's pods from executor pods: use another name." $path $label) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "code-interpreter.refuseFiles" -}}
{{- $files := .Values.files }}
{{- if and $files.persistence.enabled $files.objectStore.url }}
{{- fail "files.persistence.enabled is true and files.objectStore.url is set: files lie in one of them, give one." }}
{{- end }}
{{- if and $files.persistence.existingClaim (not $files.persistence.enabled) }}
{{- fail (printf "files.persistence.existingClaim is %s and files.persistence.enabled is false: files would go with the pod. Enable it." $files.persistence.existingClaim) }}
{{- end }}
{{- range .Values.volumeMounts }}
  {{- if and $files.persistence.enabled (eq (trimSuffix "/" .mountPath) (trimSuffix "/" $files.directory)) }}
  {{- fail (printf "files.persistence.enabled is true and volumeMounts has a volume of yours at %s too: give one." .mountPath) }}
  {{- end }}
{{- end }}
{{- $modes := $files.persistence.accessModes }}
{{- $shared := or $files.objectStore.url .Values.fileStorage.shared (and $files.persistence.enabled (has "ReadWriteMany" $modes)) }}
{{- if and (gt (int64 .Values.replicaCount) 1) (not $shared) }}
{{- $where := $files.persistence.enabled | ternary (printf "in a volume that only one node may write (accessModes %s)" (join ", " $modes)) "in each replica's own folder" }}
{{- fail (printf "replicaCount is %d and files lie %s: set files.objectStore.url, or files.persistence with accessModes [ReadWriteMany], or fileStorage.shared=true where you mount something shared at files.directory." (int64 .Values.replicaCount) $where) }}
{{- end }}
{{- end }}

{{- define "code-interpreter.refuseService" -}}
{{- $port := int64 .Values.codeInterpreter.port }}
{{- $target := .Values.service.targetPort | default "http" }}
{{- if and (ne (toString $target) "http") (ne (int64 $target) $port) }}
{{- fail (printf "service.targetPort is %v and codeInterpreter.port is %d: nothing listens there. Leave targetPort out." $target $port) }}
{{- end }}
{{- if or (hasPrefix "127." .Values.codeInterpreter.host) (has .Values.codeInterpreter.host (list "localhost" "::1")) }}
{{- fail (printf "codeInterpreter.host is %s: neither probes nor callers reach a loopback address. Use 0.0.0.0 or ::." .Values.codeInterpreter.host) }}
{{- end }}
{{- range .Values.extraEnvVars }}
  {{- if has .name (list "EXECUTOR_BACKEND" "BROKER_EXECUTOR_FILE" "BROKER_POD_NAME" "BROKER_POD_IP") }}
  {{- fail (printf "extraEnvVars sets %s, which ties the service to its pods and is the chart's own." .name) }}
  {{- end }}
{{- end }}
{{- with .Values.podDisruptionBudget }}
  {{- $neither := or (kindIs "invalid" .minAvailable) (kindIs "invalid" .maxUnavailable) }}
  {{- if not $neither }}
  {{- fail "podDisruptionBudget has minAvailable and maxUnavailable: give one of them." }}
  {{- end }}
  {{- $blocks := or (has (toString .minAvailable) (list "100%")) (has (toString .maxUnavailable) (list "0" "0%")) }}
  {{- if and .enabled (or $blocks (and (has (kindOf .minAvailable) (list "float64" "int64")) (ge (int64 .minAvailable) (int64 $.Values.replicaCount)))) }}
  {{- fail (printf "podDisruptionBudget never lets a pod of the %d go: no node with one could be drained." (int64 $.Values.replicaCount)) }}
  {{- end }}
{{- end }}
{{- end }}
