"""Benefits (普惠服务): member cards, programmes, coupons."""
