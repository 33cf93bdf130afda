/* Answers as NVIDIA's management library does on a machine with GPUS of them, each 80 GiB, GPU n used by (n + 1) GiB. */
#include <stdio.h>
#include <stdlib.h>

typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned gpu, memory; } utilization;
enum { SUCCESS = 0, INVALID_ARGUMENT = 2 };

static unsigned gpus(void) { const char *text = getenv("GPUS"); return text ? (unsigned)atoi(text) : 2; }
static unsigned index_of(void *device) { return (unsigned)(unsigned long)device - 1; }

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = gpus(); return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index >= gpus()) return INVALID_ARGUMENT;
    *device = (void *)(unsigned long)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    (void)device;
    snprintf(name, length, "NVIDIA A100-SXM4-80GB");
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    snprintf(uuid, length, "GPU-fake-%u", index_of(device));
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, memory *info) {
    info->total = 80ULL << 30;
    info->used = (index_of(device) + 1ULL) << 30;
    info->free = info->total - info->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *device, utilization *rates) {
    rates->gpu = 40 + index_of(device);
    rates->memory = 7;
    return SUCCESS;
}
