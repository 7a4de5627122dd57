{{/* Labels of a part, which also select its pods: (list . "coordinator"). */}}
{{- define "encaje.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: encaje
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* What the pods of all parts have in common. */}}
{{- define "encaje.pod" -}}
automountServiceAccountToken: false
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
# Files in the storage are readable by their owner alone, so all processes run as one user.
securityContext:
  runAsUser: 10001
  runAsGroup: 10001
  runAsNonRoot: true
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "encaje.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- with .Values.environmentSecret }}
envFrom: [{ secretRef: { name: {{ . }} } }]
{{- end }}
{{- end }}

{{/* The variables of all parts, after their own. */}}
{{- define "encaje.environment" -}}
{{- range $name, $value := .Values.environment }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}

{{- define "encaje.mounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: secret, mountPath: /secret, readOnly: true }
{{- if .Values.storage.claim }}
- { name: storage, mountPath: /var/lib/encaje }
{{- end }}
{{- end }}

{{/* The volumes of a part, with the files that it needs of the secret: (list . "ca.pem" ...). */}}
{{- define "encaje.volumes" -}}
{{- $root := first . -}}
- { name: tmp, emptyDir: {} }
- name: secret
  secret:
    secretName: {{ $root.Values.secret }}
    defaultMode: 0440
    items:
      {{- range rest . }}
      - { key: {{ . }}, path: {{ . }} }
      {{- end }}
{{- with $root.Values.storage.claim }}
- { name: storage, persistentVolumeClaim: { claimName: {{ . }} } }
{{- end }}
{{- end }}

{{/* The URLs of all coordinators. Clients of one that fails switch to the next. */}}
{{- define "encaje.coordinators" -}}
{{- $name := .Release.Name -}}
{{- $urls := list -}}
{{- range $index := until (int .Values.coordinators.replicas) -}}
{{- $urls = append $urls (printf "https://%s-coordinator-%d.%s:7600" $name $index $name) -}}
{{- end -}}
{{- join "," $urls -}}
{{- end }}

{{/* The selector of the metrics in PromQL, {namespace="encaje"}, or nothing. */}}
{{- define "encaje.metrics" -}}
{{- $matchers := list -}}
{{- range $name, $value := .Values.autoscaling.labels -}}
{{- $matchers = append $matchers (printf "%s=%q" $name $value) -}}
{{- end -}}
{{- if $matchers }}{{ printf "{%s}" (join "," $matchers) }}{{ end -}}
{{- end }}
