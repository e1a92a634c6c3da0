#pragma once

#include "gstcfrealtimebase.h"

#define GST_TYPE_CF_REALTIME_SINK (gst_cf_realtime_sink_get_type())
G_DECLARE_FINAL_TYPE(GstCfRealtimeSink, gst_cf_realtime_sink, GST, CF_REALTIME_SINK,
                     GstCfRealtimeBase)
