{{/* The command line. */}}
{{- define "whygate.arguments" -}}
{{- $v := .Values -}}
- run
- --http-listen={{ if $v.listen.http }}[::]:{{ $v.listen.http }}{{ else }}off{{ end }}
- --https-listen={{ if $v.listen.https }}[::]:{{ $v.listen.https }}{{ else }}off{{ end }}
- --admin-listen=[::]:{{ $v.listen.admin }}
- --ingress-class={{ $v.ingressClass.name }}
{{- if ne $v.controllerName "whygate.dev/ingress-controller" }}
- --controller-name={{ $v.controllerName }}
{{- end }}
{{- if $v.watchIngressWithoutClass }}
- --watch-ingress-without-class
{{- end }}
{{- range $v.watchNamespaces }}
- --watch-namespace={{ . }}
{{- end }}
{{- if not (include "whygate.clusterScope" .) }}
- --without-cluster-policies
{{- end }}
{{- if eq $v.secrets.scope "namespaces" }}
- --secret-namespaces={{ $v.secrets.namespaces | join "," | default "none" }}
{{- end }}
{{- if eq $v.configMaps.scope "cluster" }}
- --config-map-namespaces=all
{{- else if $v.configMaps.namespaces }}
- --config-map-namespaces={{ join "," $v.configMaps.namespaces }}
{{- end }}
- --default-posture={{ $v.defaultPosture }}
{{- with $v.hostNamespaces }}
{{- $owners := list }}
{{- range $pattern, $namespace := . }}
{{- $owners = append $owners (printf "%s=%s" $pattern $namespace) }}
{{- end }}
- {{ printf "--host-namespaces=%s" (join "," $owners) | quote }}
{{- end }}
{{- with $v.defaultTlsSecret }}
- --default-tls-secret={{ . }}
{{- end }}
{{- if $v.externalNames.allow }}
- --allow-external-name
{{- with $v.externalNames.cidrs }}
- --external-name-cidrs={{ join "," . }}
{{- end }}
{{- end }}
{{- if ne $v.clientAddress.source "peer" }}
- --client-address={{ $v.clientAddress.source }}
- --trusted-proxies={{ join "," $v.clientAddress.trustedProxies }}
{{- end }}
{{- with $v.clientAddress.infrastructureCidrs }}
- --infrastructure-cidrs={{ join "," . }}
{{- end }}
{{- if $v.publish.addresses }}
- --publish-address={{ join "," $v.publish.addresses }}
{{- else if and $v.publish.service $v.service.enabled }}
- --publish-service={{ .Release.Namespace }}/{{ include "whygate.fullname" . }}
{{- end }}
- --event-writes-per-minute={{ $v.events.writesPerMinute | int64 }}
- --denial-window-seconds={{ $v.events.windowSeconds }}
- --shutdown-delay-seconds={{ $v.shutdown.delaySeconds }}
- --shutdown-grace-seconds={{ $v.shutdown.graceSeconds }}
{{- with $v.threads }}
- --threads={{ . }}
{{- end }}
- --log-format={{ $v.log.format }}
{{- with $v.log.filter }}
- {{ printf "--log=%s" . | quote }}
{{- end }}
{{- if ne $v.accessLog.format "off" }}
- --access-log={{ $v.accessLog.format }}
- --access-log-one-in={{ $v.accessLog.oneIn | int64 }}
{{- if $v.accessLog.queries }}
- --access-log-queries
{{- end }}
{{- end }}
{{- if ne $v.traces.context "trust" }}
- --trace-context={{ $v.traces.context }}
{{- end }}
{{- range $name, $value := $v.limits }}
{{- if not (kindIs "invalid" $value) }}
- --{{ kebabcase $name }}={{ $value | int64 }}
{{- end }}
{{- end }}
{{- range $v.extraArgs }}
- {{ quote . }}
{{- end }}
{{- end -}}

{{/* The environment. */}}
{{- define "whygate.environment" -}}
{{- $v := .Values -}}
- name: WHYGATE_REPLICA
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: WHYGATE_LEASE_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- $request := dig "requests" "cpu" "" $v.resources }}
{{- /* With a limit the program reads the control group; below two CPUs its own least number holds. */}}
{{- if and $request (not $v.threads) (not (dig "limits" "cpu" "" $v.resources)) }}
{{- if ge (include "whygate.millis" $request | int) 2000 }}
- name: WHYGATE_THREADS
  valueFrom: {resourceFieldRef: {containerName: whygate, resource: requests.cpu, divisor: "1"}}
{{- end }}
{{- end }}
{{- with $v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the Pod Security level `restricted` demands of a container. */}}
{{- define "whygate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What the Pod Security level `restricted` demands of a pod. */}}
{{- define "whygate.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ . | int64 }}
runAsGroup: {{ . | int64 }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* One constraint of the spread: context, key of the node's label, mode. */}}
{{- define "whygate.spread" -}}
- topologyKey: {{ .key }}
  maxSkew: 1
  whenUnsatisfiable: {{ .mode }}
  labelSelector:
    matchLabels: {{- include "whygate.selector" .root | nindent 6 }}
  # An update counts its new pods alone, or it could not spread them.
  matchLabelKeys: [pod-template-hash]
{{- end -}}

{{/* The pod template of either kind. */}}
{{- define "whygate.pod" -}}
{{- $v := .Values -}}
metadata:
  labels: {{- toYaml (merge (include "whygate.labels" . | fromYaml) $v.podLabels) | nindent 4 }}
  {{- with $v.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "whygate.serviceAccountName" . }}
  # The program keeps accepting for the delay, then lets requests end; the rest is for the last Events.
  terminationGracePeriodSeconds: {{ add $v.shutdown.delaySeconds $v.shutdown.graceSeconds 5 }}
  enableServiceLinks: false
  {{- if $v.hostNetwork }}
  hostNetwork: true
  {{- end }}
  dnsPolicy: {{ $v.dnsPolicy | default (ternary "ClusterFirstWithHostNet" "ClusterFirst" $v.hostNetwork) }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $v.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $v.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and (eq $v.kind "Deployment") (or (ne $v.topologySpread.zones "Off") (ne $v.topologySpread.nodes "Off")) }}
  topologySpreadConstraints:
    {{- if ne $v.topologySpread.zones "Off" }}
    {{- include "whygate.spread" (dict "root" . "key" "topology.kubernetes.io/zone" "mode" $v.topologySpread.zones) | nindent 4 }}
    {{- end }}
    {{- if ne $v.topologySpread.nodes "Off" }}
    {{- include "whygate.spread" (dict "root" . "key" "kubernetes.io/hostname" "mode" $v.topologySpread.nodes) | nindent 4 }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- include "whygate.podSecurity" . | nindent 4 }}
    {{- $low := or (and $v.listen.http (lt ($v.listen.http | int) 1024)) (and $v.listen.https (lt ($v.listen.https | int) 1024)) (lt ($v.listen.admin | int) 1024) }}
    {{- if and $low (not $v.hostNetwork) }}
    sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}]
    {{- end }}
  containers:
    - name: whygate
      image: {{ include "whygate.image" . }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: {{- include "whygate.arguments" . | nindent 8 }}
      env: {{- include "whygate.environment" . | nindent 8 }}
      ports:
        {{- if $v.listen.http }}
        - {name: http, containerPort: {{ $v.listen.http }}{{ with $v.hostPorts.http }}, hostPort: {{ . }}{{ end }}}
        {{- end }}
        {{- if $v.listen.https }}
        - {name: https, containerPort: {{ $v.listen.https }}{{ with $v.hostPorts.https }}, hostPort: {{ . }}{{ end }}}
        {{- end }}
        - {name: admin, containerPort: {{ $v.listen.admin }}}
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: {{ $v.probes.livenessPeriodSeconds }}
        failureThreshold: {{ $v.probes.livenessFailures }}
        timeoutSeconds: {{ $v.probes.timeoutSeconds }}
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: {{ $v.probes.readinessPeriodSeconds }}
        failureThreshold: {{ $v.probes.readinessFailures }}
        timeoutSeconds: {{ $v.probes.timeoutSeconds }}
      {{- with $v.resources }}
      resources: {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext: {{- include "whygate.containerSecurity" . | nindent 8 }}
{{- end -}}
