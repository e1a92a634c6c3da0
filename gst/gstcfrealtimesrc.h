#pragma once

#include "gstcfrealtimebase.h"

#define GST_TYPE_CF_REALTIME_SRC (gst_cf_realtime_src_get_type())
G_DECLARE_FINAL_TYPE(GstCfRealtimeSrc, gst_cf_realtime_src, GST, CF_REALTIME_SRC, GstCfRealtimeBase)
